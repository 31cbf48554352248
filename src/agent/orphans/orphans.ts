// What hostlet made and no VM has: looked for at each connect and told; removed by host.clean alone, and only what is provably ours.

import { rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { asHostletError, HostletError } from '../../errors.ts'
import type { Clock } from '../../lib/clock.ts'
import { startDeadline } from '../../lib/deadline.ts'
import type { Logger } from '../../lib/log.ts'
import { type HostCleanResult, type OrphanItem, type OrphanKind, orphansMax } from '../../protocol/orphans.ts'
import type { Hypervisor, HypervisorStatus, Wait } from '../host/hypervisor.ts'
import type { KnownVm } from '../inventory/known-vms.ts'
import type { DiskKeys } from '../keys/disk-keys.ts'
import { gatherOrphanFacts, type OrphanPlaces } from './facts.ts'
import { orphansIn } from './finders.ts'

export interface OrphansOptions extends OrphanPlaces {
  readonly hypervisor: OrphanPlaces['hypervisor'] &
    Pick<Hypervisor, 'onStatus' | 'removeVolume' | 'removeNetwork' | 'removeReservation' | 'removeSecret'>
  readonly keys: OrphanPlaces['keys'] & Pick<DiskKeys, 'discard'>
  readonly clock: Clock
  readonly log: Logger
  /** Where what was found is written, for the doctor: the books that prove it are the agent's alone. */
  readonly reportPath?: string
}

/** What the last look found. */
export interface OrphanReport {
  readonly at: number
  readonly items: readonly OrphanItem[]
}

export const orphanReportName = 'leftovers.json'
const lookMs = 120_000
/** Of each kind in one line of the log; the counts are whole. */
const namesLoggedMax = 20

export class Orphans implements AsyncDisposable {
  readonly #options: OrphansOptions
  readonly #stopping = new AbortController()
  #listener: Disposable | undefined
  #looking: Promise<void> = Promise.resolve()
  #told = ''
  #ours: readonly OrphanItem[] = []
  readonly #removed = new Set<(item: OrphanItem) => void>()

  constructor(options: OrphansOptions) {
    this.#options = options
  }

  /** From now on looks each time the hypervisor has come (back). */
  begin(): void {
    this.#listener ??= this.#options.hypervisor.onStatus((status) => this.#take(status))
  }

  /** Told of each that was removed. */
  onRemoved(listener: (item: OrphanItem) => void): Disposable {
    this.#removed.add(listener)
    return { [Symbol.dispose]: () => this.#removed.delete(listener) }
  }

  /** Provably ours, when it was last looked: how many of each kind. */
  get counts(): Readonly<Partial<Record<OrphanKind, number>>> {
    const counts: Partial<Record<OrphanKind, number>> = {}
    for (const { kind } of this.#ours) counts[kind] = (counts[kind] ?? 0) + 1
    return counts
  }

  /** What is there and belongs to no VM. `checkImages` reads images that nobody has checked: that may take minutes. */
  async find(
    { keep = [], checkImages = false }: { keep?: readonly KnownVm[]; checkImages?: boolean },
    wait: Wait
  ): Promise<OrphanItem[]> {
    return orphansIn(await gatherOrphanFacts(this.#options, { keep, checkImages }, wait))
  }

  /** Removes what was listed, each only if it is still provably ours. */
  async clean(
    listed: readonly Pick<OrphanItem, 'kind' | 'name'>[],
    keep: readonly KnownVm[],
    wait: Wait
  ): Promise<Pick<HostCleanResult, 'removed' | 'failed'>> {
    const removed: OrphanItem[] = []
    const failed: OrphanItem[] = []
    for (const { kind, name } of listed) {
      const found = await this.find({ keep, checkImages: kind === 'image' }, wait)
      const item = found.find((each) => each.kind === kind && each.name === name)
      // Gone by now, or somebody's.
      if (item?.verdict !== 'ours') continue
      try {
        await this.#remove(item, wait)
        removed.push(item)
        this.#options.log.info({ kind, name, why: item.why }, 'leftover removed')
        for (const listener of this.#removed) listener(item)
      } catch (thrown) {
        wait.signal.throwIfAborted()
        const error = asHostletError(thrown)
        if (error.code === 'E_UNAVAILABLE' || error.code === 'E_INTERRUPTED') throw error
        failed.push({ ...item, why: error.message.slice(0, 512) })
      }
    }
    this.look()
    return { removed: removed.slice(0, orphansMax), failed: failed.slice(0, orphansMax) }
  }

  /** Looks anew, and tells; returns at once. */
  look(): void {
    this.#looking = this.#looking.then(() => this.#look())
  }

  /** Resolves when the looks that were asked for have ended. */
  async looked(): Promise<void> {
    await this.#looking
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#listener?.[Symbol.dispose]()
    this.#stopping.abort(new HostletError('E_CANCELLED', 'the agent is stopping'))
    await this.#looking
  }

  #take({ state }: HypervisorStatus): void {
    if (state === 'connected') this.look()
  }

  async #look(): Promise<void> {
    const { clock, log } = this.#options
    const { signal } = this.#stopping
    if (signal.aborted) return
    using deadline = startDeadline({ clock, ms: lookMs, what: 'looking for orphans', signal })
    try {
      const found = await this.find({}, { signal: deadline.signal })
      this.#tell(found)
      await this.#report(found)
    } catch (error) {
      if (!signal.aborted) log.debug({ error: asHostletError(error) }, 'orphans could not be looked for')
    }
  }

  /** Once, and again when they are others. */
  #tell(found: readonly OrphanItem[]): void {
    this.#ours = found.filter(({ verdict }) => verdict === 'ours')
    // A lease ends by itself.
    const worth = found.filter(({ kind }) => kind !== 'lease')
    const names = (kind: OrphanKind) => worth.filter((item) => item.kind === kind).map(({ name }) => name)
    const kinds = [...new Set(worth.map(({ kind }) => kind))]
    const text = JSON.stringify(worth.map(({ kind, name, verdict }) => [kind, name, verdict]))
    const changed = text !== this.#told
    this.#told = text
    if (!changed || worth.length === 0) return
    const fields = Object.fromEntries(kinds.map((kind) => [kind, names(kind).slice(0, namesLoggedMax)]))
    this.#options.log.warn(
      { count: worth.length, ours: this.#ours.length, ...fields },
      'left of VMs that do not exist any more'
    )
  }

  async #report(items: readonly OrphanItem[]): Promise<void> {
    const { reportPath, clock } = this.#options
    if (reportPath === undefined) return
    const report: OrphanReport = { at: clock.now(), items: items.slice(0, orphansMax) }
    await writeFile(reportPath, JSON.stringify(report), { mode: 0o600 })
  }

  async #remove({ kind, name }: OrphanItem, wait: Wait): Promise<void> {
    const { hypervisor, keys, seedDirectory, consoleDirectory, qemuLogDirectory } = this.#options
    const [network = '', macAddress = ''] = name.split(' ')
    const ways: Readonly<Record<OrphanKind, () => Promise<unknown> | unknown>> = {
      volume: () => hypervisor.removeVolume(name, wait),
      scratch: () => hypervisor.removeVolume(name, wait),
      image: () => hypervisor.removeVolume(name, wait),
      seed: () => rm(join(seedDirectory, name), { force: true }),
      console: () => rm(join(consoleDirectory, name), { force: true }),
      'qemu-log': () => rm(join(qemuLogDirectory, name), { force: true }),
      reservation: () => hypervisor.removeReservation(network, macAddress, wait),
      network: () => hypervisor.removeNetwork(name, wait),
      secret: () => hypervisor.removeSecret(name, wait),
      key: () => keys.discard(name),
      // Never proven, so never removed.
      lease: () => undefined
    }
    await ways[kind]()
  }
}
