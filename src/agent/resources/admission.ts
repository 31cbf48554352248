// Whether the host can take one VM more, as a pure decision: its memory, its huge pages, its shared processors.

import { HostletError } from '../../errors.ts'
import type { Profile } from '../profiles.ts'

export type ProfileTerms = Pick<Profile, 'cpu' | 'cpuOvercommit' | 'memoryOvercommit' | 'hugepages'>

export interface Demand {
  readonly name: string
  readonly cpus: number
  readonly memoryBytes: number
  readonly terms: ProfileTerms
}

export interface Supply {
  /** All of the host's. */
  readonly memoryBytes: number
  /** Out of these, what is set aside as huge pages. */
  readonly hugepageBytes: number
  /** Promised to no VM. */
  readonly reserveBytes: number
  /** Processors that VMs share. */
  readonly sharedCpus: number
}

/** Of a VM whose profile is no longer configured. */
export const plainTerms: ProfileTerms = {
  cpu: 'shared',
  cpuOvercommit: 1,
  memoryOvercommit: 1,
  hugepages: false
}

/** `others`: the VMs that run or should. Throws E_CAPACITY. */
export function admit(wanted: Demand, others: readonly Demand[], supply: Supply): void {
  if (wanted.terms.hugepages) requireHugepages(wanted, others, supply)
  else requireMemory(wanted, others, supply)
  if (wanted.terms.cpu === 'shared') requireSharedCpus(wanted, others, supply)
}

/** Something of the host that a VM takes, and what others leave of it, both at the overcommit of its profile. */
export interface Taken {
  readonly what: 'memory' | 'huge pages' | 'shared processors'
  readonly needed: number
  readonly free: number
}

/** What `admit` looks at, in numbers. `others`: the VMs that run or should, without it. */
export function takenOf(wanted: Demand, others: readonly Demand[], supply: Supply): readonly Taken[] {
  const { memoryBytes: needed, cpus, terms } = wanted
  const inPages = others.filter((other) => other.terms.hugepages)
  const memory = terms.hugepages
    ? ({
        what: 'huge pages',
        needed,
        free: supply.hugepageBytes - inPages.reduce((sum, { memoryBytes }) => sum + memoryBytes, 0)
      } as const)
    : ({
        what: 'memory',
        needed,
        free: Math.floor(memoryLeftBytes(others, supply) * terms.memoryOvercommit)
      } as const)
  if (terms.cpu !== 'shared') return [memory]
  const free = (supply.sharedCpus - cpusNeeded(others)) * terms.cpuOvercommit
  return [memory, { what: 'shared processors', needed: cpus, free: Math.max(0, free) }]
}

/** Guest memory that a VM of overcommit 1 could still have. */
export function memoryLeftBytes(others: readonly Demand[], supply: Supply): number {
  return Math.max(0, memoryForVms(supply) - promisedBytes(others))
}

/** What all VMs without huge pages can have together at overcommit 1. */
export function memoryForVms({ memoryBytes, hugepageBytes, reserveBytes }: Supply): number {
  return Math.max(0, memoryBytes - hugepageBytes - reserveBytes)
}

/** The processors that the vCPUs of these VMs need at the overcommit of their profiles. */
export function cpusNeeded(demands: readonly Demand[]): number {
  return demands
    .filter(({ terms }) => terms.cpu === 'shared')
    .reduce((sum, { cpus, terms }) => sum + cpus / terms.cpuOvercommit, 0)
}

function requireMemory(wanted: Demand, others: readonly Demand[], supply: Supply): void {
  const neededBytes = wanted.memoryBytes / wanted.terms.memoryOvercommit
  const leftBytes = memoryLeftBytes(others, supply)
  if (neededBytes <= leftBytes) return
  throw new HostletError(
    'E_CAPACITY',
    `VM ${wanted.name} needs ${mebibytes(neededBytes)} MiB of memory${overcommitText(wanted.terms.memoryOvercommit)}, the host has ${mebibytes(leftBytes)} MiB left of the ${mebibytes(memoryForVms(supply))} MiB for VMs (${mebibytes(supply.reserveBytes)} MiB are the host's own). Stop or shrink a VM, or use another host.`,
    { details: { vm: wanted.name, neededBytes: Math.ceil(neededBytes), leftBytes: Math.floor(leftBytes) } }
  )
}

function requireHugepages(wanted: Demand, others: readonly Demand[], { hugepageBytes }: Supply): void {
  const taken = others.filter(({ terms }) => terms.hugepages)
  const leftBytes = Math.max(0, hugepageBytes - taken.reduce((sum, { memoryBytes }) => sum + memoryBytes, 0))
  if (wanted.memoryBytes <= leftBytes) return
  throw new HostletError(
    'E_CAPACITY',
    `VM ${wanted.name} needs ${mebibytes(wanted.memoryBytes)} MiB of huge pages, the host has ${mebibytes(leftBytes)} MiB left of ${mebibytes(hugepageBytes)} MiB. Set more aside with "sysctl vm.nr_hugepages=…", stop a VM of such a profile, or use another host.`,
    { details: { vm: wanted.name, neededBytes: wanted.memoryBytes, leftBytes } }
  )
}

function requireSharedCpus(wanted: Demand, others: readonly Demand[], { sharedCpus }: Supply): void {
  const taken = cpusNeeded(others)
  if (taken + cpusNeeded([wanted]) <= sharedCpus) return
  const left = Math.max(0, Math.floor((sharedCpus - taken) * wanted.terms.cpuOvercommit))
  throw new HostletError(
    'E_CAPACITY',
    `VM ${wanted.name} needs ${wanted.cpus} vCPUs, the host has room for ${left} more on the ${sharedCpus} processors that VMs share${overcommitText(wanted.terms.cpuOvercommit)}. Stop or shrink a VM, ask for fewer vCPUs, or use another host.`,
    { details: { vm: wanted.name, cpus: wanted.cpus, cpusLeft: left, sharedCpus } }
  )
}

/**
 * Cores that leave the shared ones must not take them from what runs there. Throws E_CAPACITY. `sharedCpus` of the supply: what
 * is left without the cores that are about to be given away.
 */
export function requireRoomBeside(
  name: string,
  sharing: readonly Demand[],
  { sharedCpus }: Pick<Supply, 'sharedCpus'>
): void {
  const needed = cpusNeeded(sharing)
  if (sharedCpus > 0 && needed <= sharedCpus) return
  throw new HostletError(
    'E_CAPACITY',
    `the cores that VM ${name} needs to itself are in use: the VMs that share processors need ${needed.toFixed(1)} of them, ${sharedCpus} would be left. Stop or shrink one of those, ask for fewer vCPUs, or use another host.`,
    { details: { vm: name, sharedCpusNeeded: Math.ceil(needed), sharedCpusLeft: sharedCpus } }
  )
}

function promisedBytes(demands: readonly Demand[]): number {
  return demands
    .filter(({ terms }) => !terms.hugepages)
    .reduce((sum, { memoryBytes, terms }) => sum + memoryBytes / terms.memoryOvercommit, 0)
}

function overcommitText(ratio: number): string {
  return ratio === 1 ? '' : ` at an overcommit of ${ratio}`
}

function mebibytes(bytes: number): number {
  return Math.floor(bytes / 1024 ** 2)
}
