// What hostlet made and no VM has: looked for at each connect, told in the log, never removed here.

import { asHostletError, HostletError } from '../../errors.ts'
import type { Clock } from '../../lib/clock.ts'
import { startDeadline } from '../../lib/deadline.ts'
import type { Logger } from '../../lib/log.ts'
import type { ForeignDomain } from '../../protocol/vm.ts'
import type { Hypervisor, HypervisorStatus, VmRecord, Wait } from './hypervisor.ts'
import { diskOwner, shortId } from './names.ts'
import type { Placements } from './placement.ts'
import type { Seeds } from './seed.ts'

export interface OrphansOptions {
  readonly hypervisor: Hypervisor
  readonly placements: Pick<Placements, 'networkNames' | 'isOwnNetwork'>
  readonly seeds: Pick<Seeds, 'list'>
  readonly clock: Clock
  readonly log: Logger
}

export interface OrphanNames {
  readonly volumes: readonly string[]
  /** As `52:… 10.90.0.7`. */
  readonly reservations: readonly string[]
  /** That a VM had to itself. */
  readonly networks: readonly string[]
  /** UUIDs of the VMs that they were made for. */
  readonly seeds: readonly string[]
}

const lookMs = 60_000
/** Of each kind in one line of the log; the counts are whole. */
const namesLoggedMax = 20

export class Orphans implements AsyncDisposable {
  readonly #options: OrphansOptions
  readonly #stopping = new AbortController()
  #listener: Disposable | undefined
  #looking: Promise<void> = Promise.resolve()
  #told = ''

  constructor(options: OrphansOptions) {
    this.#options = options
  }

  /** From now on looks each time the hypervisor has come (back). */
  begin(): void {
    this.#listener ??= this.#options.hypervisor.onStatus((status) => this.#take(status))
  }

  /** What is there and belongs to no VM. What comes or goes meanwhile is not counted. */
  async find(wait: Wait): Promise<OrphanNames> {
    const before = await this.#owners(wait)
    const volumes = await this.#options.hypervisor.listVolumes(wait)
    const reservations = await this.#reservations(wait)
    const networks = await this.#options.hypervisor.listNetworks(wait)
    const seeds = await this.#options.seeds.list()
    const owners = [before, await this.#owners(wait)]
    return {
      volumes: volumes
        .map(({ name }) => name)
        .filter((name) => isLost(diskOwner(name), owners, ({ disks }) => disks)),
      reservations: reservations
        .filter(({ macAddress }) => isLost(macAddress, owners, (each) => each.macAddresses))
        .map(({ macAddress, address }) => `${macAddress} ${address}`),
      networks: networks
        .map(({ name }) => name)
        .filter((name) => this.#options.placements.isOwnNetwork(name))
        .filter((name) => isLost(name, owners, (each) => each.networks)),
      seeds: seeds.filter((uuid) => isLost(uuid, owners, ({ uuids }) => uuids))
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#listener?.[Symbol.dispose]()
    this.#stopping.abort(new HostletError('E_CANCELLED', 'the agent is stopping'))
    await this.#looking
  }

  #take({ state }: HypervisorStatus): void {
    if (state === 'connected') this.#looking = this.#looking.then(() => this.#look())
  }

  async #look(): Promise<void> {
    const { clock, log } = this.#options
    const { signal } = this.#stopping
    if (signal.aborted) return
    using deadline = startDeadline({ clock, ms: lookMs, what: 'looking for orphans', signal })
    try {
      this.#tell(await this.find({ signal: deadline.signal }))
    } catch (error) {
      if (!signal.aborted) log.debug({ error: asHostletError(error) }, 'orphans could not be looked for')
    }
  }

  /** Once, and again when they are others. */
  #tell(found: OrphanNames): void {
    const text = JSON.stringify(found)
    const counts = Object.values(found).map((names: readonly string[]) => names.length)
    const changed = text !== this.#told
    this.#told = text
    if (!changed || counts.every((count) => count === 0)) return
    const fields = Object.entries(found).map(([kind, names]) => [kind, names.slice(0, namesLoggedMax)])
    const count = counts.reduce((sum, each) => sum + each, 0)
    this.#options.log.warn({ count, ...Object.fromEntries(fields) }, 'left of VMs that do not exist any more')
  }

  /** A VM whose metadata cannot be read is listed as foreign: its disks are not lost. */
  async #owners(wait: Wait): Promise<Owners> {
    const { hypervisor } = this.#options
    const [vms, foreign] = await Promise.all([hypervisor.listVms(wait), hypervisor.listForeign(wait)])
    return ownersOf(vms, foreign)
  }

  async #reservations(wait: Wait) {
    const { hypervisor, placements } = this.#options
    const lists = placements.networkNames.map((network) =>
      hypervisor.listReservations(network, wait).catch((error) => {
        // It is made with the first VM.
        if (error instanceof HostletError && error.code === 'E_NOT_FOUND') return []
        throw error
      })
    )
    return (await Promise.all(lists)).flat()
  }
}

interface Owners {
  readonly uuids: ReadonlySet<string>
  readonly disks: ReadonlySet<string>
  readonly macAddresses: ReadonlySet<string>
  readonly networks: ReadonlySet<string>
}

function ownersOf(vms: readonly VmRecord[], foreign: readonly ForeignDomain[]): Owners {
  const all = [...vms.map(({ specification }) => specification), ...foreign]
  return {
    uuids: new Set(all.map(({ uuid }) => uuid)),
    disks: new Set(all.map((vm) => shortId(vm))),
    macAddresses: new Set(vms.map(({ placement }) => placement.macAddress)),
    networks: new Set(vms.map(({ placement }) => placement.network))
  }
}

/** Undefined is nobody's to begin with: a base image, or what somebody else put there. */
function isLost(
  owner: string | undefined,
  owners: readonly Owners[],
  known: (owners: Owners) => ReadonlySet<string>
): boolean {
  return owner !== undefined && !owners.some((each) => known(each).has(owner))
}
