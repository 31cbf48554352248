// Which core of the host is whose, as pure decisions: cores of a VM alone, and those that the other VMs share.

import { HostletError } from '../../errors.ts'
import type { Topology } from './topology.ts'

export interface CoreSupply {
  readonly topology: Topology
  /** The first cores of the host, which no VM has to itself: the host's own work runs there, and VMs that share. */
  readonly reserved: number
  /** Processors of quarantined domains: given to nobody. */
  readonly held?: readonly number[]
}

/** The cores of one VM: for each vCPU the threads of the core that it has to itself. */
export type OwnCores = readonly (readonly number[])[]

/** Cores that a VM may have to itself, whoever has them now. */
export function pinnableCores({ topology, reserved }: CoreSupply): Topology {
  return topology.slice(reserved)
}

/** `taken`: of all VMs that have cores to themselves, running or not. */
export function freeCores(supply: CoreSupply, taken: readonly OwnCores[]): Topology {
  const cpus = new Set([...cpusOf(taken), ...(supply.held ?? [])])
  return pinnableCores(supply).filter((core) => !core.some((cpu) => cpus.has(cpu)))
}

/**
 * As many whole cores as a VM has vCPUs. What it has it keeps, as far as it is still a whole core of the host. Throws
 * E_CAPACITY.
 */
export function allocateCores(
  { name, cpus }: { readonly name: string; readonly cpus: number },
  supply: CoreSupply,
  { others, own = [] }: { readonly others: readonly OwnCores[]; readonly own?: OwnCores }
): OwnCores {
  const free = freeCores(supply, others)
  const isFree = (core: readonly number[]) => free.some((each) => isSame(each, core))
  const kept = own.filter(isFree).slice(0, cpus)
  const added = free.filter((core) => !kept.some((each) => isSame(each, core))).slice(0, cpus - kept.length)
  if (kept.length + added.length === cpus) return [...kept, ...added]
  const pinnable = pinnableCores(supply).length
  throw new HostletError(
    'E_CAPACITY',
    `VM ${name} needs ${cpus} cores to itself; the host has ${free.length} left of the ${pinnable} that VMs can have to themselves. Tear a VM of a pinned profile down (stopped ones keep their cores), ask for fewer vCPUs, or use another host.`,
    { details: { vm: name, coresNeeded: cpus, coresFree: free.length, coresPinnable: pinnable } }
  )
}

/** What VMs without cores of their own run on: every processor whose core is nobody's alone. */
export function sharedCpus({ topology, held = [] }: CoreSupply, taken: readonly OwnCores[]): number[] {
  const cpus = new Set([...cpusOf(taken), ...held])
  return topology.filter((core) => !core.some((cpu) => cpus.has(cpu))).flat()
}

/** Whether what a VM has is as many whole cores of the host as it has vCPUs, and no other VM has any of it. */
export function isWhole(
  cpus: number,
  own: OwnCores | undefined,
  supply: CoreSupply,
  others: readonly OwnCores[]
): boolean {
  if (own?.length !== cpus) return false
  const free = freeCores(supply, others)
  const distinct = new Set(own.map((core) => core[0]))
  return distinct.size === own.length && own.every((core) => free.some((each) => isSame(each, core)))
}

function cpusOf(taken: readonly OwnCores[]): ReadonlySet<number> {
  return new Set(taken.flat(2))
}

function isSame(one: readonly number[], other: readonly number[]): boolean {
  return one.length === other.length && one.every((cpu, index) => cpu === other[index])
}
