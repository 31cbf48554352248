// The host's cores and memory, shared out to VMs: who gets which, whether one more fits, and that everybody keeps to it.

import { isDeepStrictEqual } from 'node:util'
import { asHostletError, HostletError } from '../../errors.ts'
import { KeyedLock } from '../../lib/keyed-lock.ts'
import type { Logger } from '../../lib/log.ts'
import type { HostFacts, VmSpecification } from '../../protocol/vm.ts'
import type { Hypervisor, Placement, StartGate, VmRecord, Wait } from '../host/hypervisor.ts'
import { resized } from '../host/shape.ts'
import type { VmResources, VmSizes } from '../host/shape-port.ts'
import type { Profile } from '../profiles.ts'
import {
  admit,
  type Demand,
  memoryForVms,
  plainTerms,
  requireRoomBeside,
  type Supply,
  type Taken,
  takenOf
} from './admission.ts'
import {
  allocateCores,
  type CoreSupply,
  freeCores,
  isWhole,
  type OwnCores,
  pinnableCores,
  sharedCpus
} from './cores.ts'
import { refuseLooser, tighterLimits } from './disk-limits.ts'
import type { HostMachine } from './host-machine.ts'

/** What no VM gets. */
export interface Reserve {
  readonly memoryBytes: number
  /** The first cores of the host: no VM has one of them to itself. VMs that share run there too. */
  readonly cores: number
}

export interface ResourcesOptions {
  readonly hypervisor: Pick<Hypervisor, 'listVms' | 'reshape' | 'domainUses'>
  readonly profiles: Readonly<Record<string, Profile>>
  readonly reserve: Reserve
  readonly machine: HostMachine
  readonly log: Logger
}

export type Allotted = Pick<VmRecord, 'specification'> & {
  readonly placement: Pick<Placement, 'trial' | 'resources'>
}

export interface ResourcesForeseen {
  readonly takes: readonly Taken[]
  readonly resources: VmResources
}

/** How a VM was before its sizes changed. */
export interface Resized {
  readonly before: VmRecord
  readonly isOn: boolean
}

const oneAtATime = 'resources'
const foreignMs = 15_000

export class Resources {
  readonly #options: ResourcesOptions
  /** Held by whoever gives out cores or memory, from the look to the definition that says so. */
  readonly #lock = new KeyedLock()
  /** VMs whose start is under way: they count as if they ran. */
  readonly #starting = new Set<string>()

  constructor(options: ResourcesOptions) {
    this.#options = options
  }

  /** Nobody else is given anything meanwhile. */
  async exclusively<Value>(wait: Wait, work: () => Promise<Value>): Promise<Value> {
    await using _held = await this.#lock.acquire(oneAtATime, wait.signal)
    return await work()
  }

  /** A command may tighten what its VM's profile says, never loosen it. Throws E_BAD_REQUEST. */
  refuseLooser(specification: VmSpecification): void {
    refuseLooser(specification, this.#profile(specification)?.diskLimits ?? {})
  }

  /** Whether a new VM fits beside those that run or should. Throws E_CAPACITY; gives nothing out. */
  async check(specification: VmSpecification, wait: Wait): Promise<void> {
    const vms = await this.#options.hypervisor.listVms(wait)
    const others = vms.filter((vm) => isWanted(vm) && !isSame(vm, { specification }))
    admit(this.#demand(specification), this.#demands(others), await this.#supply(vms))
    await this.#target({ specification, placement: {} }, vms)
  }

  /**
   * What a VM of this specification would take of the host beside the others, what they leave, and what it would get of cores
   * and limits. Gives nothing out. Throws E_CAPACITY where it would find no cores.
   */
  async foresee(vm: Allotted, wait: Wait): Promise<ResourcesForeseen> {
    const { specification } = vm
    const vms = await this.#options.hypervisor.listVms(wait)
    const known = vms.find((each) => isSame(each, vm))
    const others = vms.filter((each) => isWanted(each) && !isSame(each, vm))
    const takes = takenOf(this.#demand(specification), this.#demands(others), await this.#supply(vms))
    return { takes, resources: await this.#target(vm, vms, known !== undefined && isOn(known)) }
  }

  /** What a new VM gets. To be called within `exclusively`, with all VMs as they are then. Throws E_CAPACITY. */
  async allot(vm: Allotted, vms: readonly VmRecord[]): Promise<VmResources> {
    return await this.#target(vm, vms)
  }

  /**
   * Machines that run leave the cores which others have to themselves. To be called within `exclusively`. Throws when one
   * of them cannot be moved: whose cores they are must not start then.
   */
  async makeRoom(wait: Wait): Promise<void> {
    const vms = await this.#options.hypervisor.listVms(wait)
    const cpus = sharedCpus(await this.#cores(), takenBy(vms))
    for (const { specification, placement } of vms.filter(isOn)) {
      const { resources } = placement
      if (resources?.pinned !== undefined || cpus.length === 0 || isDeepStrictEqual(resources?.shared, cpus))
        continue
      await this.#options.hypervisor.reshape(
        specification.name,
        { resources: { ...resources, shared: cpus } },
        wait
      )
    }
  }

  /** Cores that came free are everybody's again. Never fails: the next start asks for the same. */
  async rebalance(wait: Wait): Promise<void> {
    await this.#willingly(wait, () => this.exclusively(wait, () => this.makeRoom(wait)))
  }

  /** After the agent or libvirt was away: everybody is where they should be, with their limits on them. Never fails. */
  async settle(wait: Wait): Promise<void> {
    await this.rebalance(wait)
    await this.#willingly(wait, async () => {
      const { hypervisor } = this.#options
      for (const { specification } of (await hypervisor.listVms(wait)).filter(isOn))
        await this.#willingly(wait, () => hypervisor.reshape(specification.name, {}, wait))
    })
  }

  /** Before a machine starts: its definition says what it gets now, and nobody runs on its cores. */
  readonly gate: StartGate = async ({ specification, placement }, wait) => {
    await this.exclusively(wait, async () => {
      const vms = await this.#options.hypervisor.listVms(wait)
      const own = vms.find((vm) => isSame(vm, { specification })) ?? { specification, placement }
      const resources = await this.#target(own, vms)
      if (!isDeepStrictEqual(resources, own.placement.resources))
        await this.#options.hypervisor.reshape(specification.name, { resources }, wait)
      if (resources.pinned !== undefined) await this.makeRoom(wait)
    })
  }

  /**
   * Before a start that takes memory; to be disposed of when it is over. Only what runs or starts counts: after a boot of the
   * host with less memory the first ones start. Throws E_CAPACITY.
   */
  async admitStart({ specification }: Pick<VmRecord, 'specification'>, wait: Wait): Promise<Disposable> {
    const { uuid } = specification
    return await this.exclusively(wait, async () => {
      const vms = await this.#options.hypervisor.listVms(wait)
      const counts = (vm: VmRecord) => isOn(vm) || this.#starting.has(vm.specification.uuid)
      const others = vms.filter((vm) => !isSame(vm, { specification }) && counts(vm))
      const demand = this.#demand(specification)
      admit(demand, this.#demands(others), await this.#supply(vms))
      if (demand.terms.hugepages) await this.#requireHugePages(specification)
      this.#starting.add(uuid)
      return { [Symbol.dispose]: () => void this.#starting.delete(uuid) }
    })
  }

  usesHugePages({ profile }: Pick<VmSpecification, 'profile'>): boolean {
    return this.#profile({ profile })?.hugepages ?? false
  }

  /**
   * Writes other sizes than those of disks into a VM's definition, with the cores for them. A machine that runs keeps the cores
   * that it has until it is off. Throws E_NOT_FOUND, E_CAPACITY and E_BAD_REQUEST.
   */
  async resize(name: string, sizes: VmSizes, wait: Wait): Promise<Resized> {
    return await this.exclusively(wait, async () => {
      const vms = await this.#options.hypervisor.listVms(wait)
      const before = vms.find((vm) => vm.specification.name === name)
      if (before === undefined)
        throw new HostletError('E_NOT_FOUND', `VM ${name} is not defined on this host`)
      const specification = resized(before.specification, sizes)
      // What it had before its profile was tightened is not asked for now.
      if (sizes.diskLimits !== undefined) this.refuseLooser(specification)
      const others = isWanted(before) ? vms.filter((vm) => isWanted(vm) && vm !== before) : []
      if (grows(before.specification, specification))
        admit(this.#demand(specification), this.#demands(others), await this.#supply(vms))
      const resources = await this.#target({ ...before, specification }, vms, isOn(before))
      await this.#options.hypervisor.reshape(name, { sizes, resources }, wait)
      if (resources.pinned !== undefined) await this.makeRoom(wait)
      return { before, isOn: isOn(before) }
    })
  }

  /** As it was: the sizes and cores of a resize that came to nothing. */
  async restore({ specification, placement }: Allotted, sizes: VmSizes, wait: Wait): Promise<void> {
    await this.exclusively(wait, async () => {
      const { resources } = placement
      const shape = { sizes, ...(resources && { resources }) }
      await this.#options.hypervisor.reshape(specification.name, shape, wait)
    })
  }

  /** What a scheduler needs to know to place VMs here. */
  async capacity(
    wait: Wait
  ): Promise<
    Pick<HostFacts, 'coresPinnable' | 'coresFree' | 'vmMemoryBytesMax' | 'profilesPinned' | 'profiles'>
  > {
    const vms = await this.#options.hypervisor.listVms(wait)
    const cores = await this.#cores()
    const profiles = Object.entries(this.#options.profiles)
    return {
      coresPinnable: pinnableCores(cores).length,
      coresFree: freeCores(cores, takenBy(vms)).length,
      vmMemoryBytesMax: memoryForVms(await this.#supply(vms)),
      profilesPinned: profiles.filter(([, { cpu }]) => cpu === 'pinned').map(([name]) => name),
      profiles: profiles.map(([name]) => name)
    }
  }

  /** What a VM is to have. One that runs (`keeps`) loses no core that it has. */
  async #target(vm: Allotted, vms: readonly VmRecord[], keeps = false): Promise<VmResources> {
    const { specification, placement } = vm
    const profile = this.#profile(specification)
    const limits = tighterLimits(profile?.diskLimits ?? {}, specification.diskLimits)
    const common = {
      ...(profile?.hugepages && !placement.trial && { hugepages: true as const }),
      ...(Object.keys(limits).length > 0 && { diskLimits: limits })
    }
    const supply = await this.#cores()
    const others = vms.filter((other) => !isSame(other, vm))
    const pinned = this.#pinned(vm, { supply, others, keeps, isPinned: profile?.cpu === 'pinned' })
    if (pinned !== undefined) return { ...common, pinned: pinned.map((core) => [...core]) }
    const shared = sharedCpus(supply, takenBy(others))
    return { ...common, ...(shared.length > 0 && { shared }) }
  }

  #pinned(
    { specification, placement }: Allotted,
    from: { supply: CoreSupply; others: readonly VmRecord[]; keeps: boolean; isPinned: boolean }
  ): OwnCores | undefined {
    const { supply, others, keeps, isPinned } = from
    const own = placement.resources?.pinned
    if (keeps && own === undefined) return undefined
    if (placement.trial || !(isPinned || keeps)) return undefined
    const cpus = keeps ? Math.max(own?.length ?? 0, specification.cpus) : specification.cpus
    const taken = takenBy(others)
    if (isWhole(cpus, own, supply, taken)) return own
    const { name } = specification
    const given = allocateCores({ name, cpus }, supply, { others: taken, ...(own && { own }) })
    const left = sharedCpus(supply, [...taken, given]).length
    requireRoomBeside(name, this.#demands(others.filter(isWanted)), { sharedCpus: left })
    return given
  }

  async #requireHugePages({ name, memoryBytes }: VmSpecification): Promise<void> {
    const { freeBytes } = await this.#options.machine.hugePages()
    if (freeBytes >= memoryBytes) return
    throw new HostletError(
      'E_CAPACITY',
      `the host has ${Math.floor(freeBytes / 1024 ** 2)} MiB of huge pages free, VM ${name} needs ${Math.floor(memoryBytes / 1024 ** 2)} MiB. Set more aside with "sysctl vm.nr_hugepages=…", or use another host.`,
      { details: { vm: name, freeBytes, neededBytes: memoryBytes } }
    )
  }

  async #willingly({ signal }: Wait, work: () => Promise<void>): Promise<void> {
    try {
      await work()
    } catch (error) {
      if (!signal.aborted)
        this.#options.log.warn({ error: asHostletError(error) }, 'the shares of VMs could not be set')
    }
  }

  #profile({ profile }: Pick<VmSpecification, 'profile'>): Profile | undefined {
    const { profiles } = this.#options
    return Object.hasOwn(profiles, profile) ? profiles[profile] : undefined
  }

  #demand(specification: VmSpecification): Demand {
    const { name, cpus, memoryBytes } = specification
    return { name, cpus, memoryBytes, terms: this.#profile(specification) ?? plainTerms }
  }

  #demands(vms: readonly VmRecord[]): Demand[] {
    return vms.filter(({ placement }) => !placement.trial).map((vm) => this.#demand(vm.specification))
  }

  async #cores(): Promise<CoreSupply> {
    const { machine, reserve, hypervisor } = this.#options
    const foreign = await hypervisor.domainUses({ signal: AbortSignal.timeout(foreignMs) }, 'foreign')
    // What was a VM of ours may run on the cores that it was given.
    const held = foreign.flatMap(({ owner, cpus }) => (owner === 'other' ? [] : cpus))
    return { topology: await machine.topology(), reserved: reserve.cores, held }
  }

  async #supply(vms: readonly VmRecord[]): Promise<Supply> {
    const { machine, reserve } = this.#options
    const { totalBytes } = await machine.hugePages()
    return {
      memoryBytes: machine.memoryBytes(),
      hugepageBytes: totalBytes,
      reserveBytes: reserve.memoryBytes,
      sharedCpus: sharedCpus(await this.#cores(), takenBy(vms)).length
    }
  }
}

/** Of every VM that has cores to itself, running or not. */
function takenBy(vms: readonly Allotted[]): OwnCores[] {
  return vms.flatMap(({ placement: { resources } }) => (resources?.pinned ? [resources.pinned] : []))
}

function isOn({ state }: VmRecord): boolean {
  return state !== 'stopped' && state !== 'crashed'
}

function isWanted(vm: VmRecord): boolean {
  return vm.wanted === 'running' || isOn(vm)
}

function isSame(one: Pick<VmRecord, 'specification'>, other: Pick<VmRecord, 'specification'>): boolean {
  return one.specification.uuid === other.specification.uuid
}

function grows(before: VmSpecification, after: VmSpecification): boolean {
  return after.cpus > before.cpus || after.memoryBytes > before.memoryBytes
}
