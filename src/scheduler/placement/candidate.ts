// A host as a place for a VM: what is known of it, and what is promised there already.

import type { Condition } from '../../protocol/messages.ts'
import { type Labels, ownLabelPrefix, type WantedVm } from '../../protocol/placement.ts'
import type { HostRecord } from '../store/store.ts'

/** What the VMs that are placed on a host may take together, running or not. */
export interface HostLoad {
  readonly memoryBytes: number
  readonly cpus: number
  /** As their guests see their disks. */
  readonly diskBytes: number
}

export interface Candidate {
  readonly host: HostRecord
  readonly placed: HostLoad
  /** What the host itself said was left, in its newest sample. */
  readonly availableBytes: number | undefined
  /** The same of the pool. */
  readonly poolAvailableBytes: number | undefined
  /** VMs there of the group of the one that wants a place. */
  readonly groupMembers: number
}

export interface Wanted extends WantedVm {
  /** The verb that puts it there. */
  readonly verb: 'vm.provision' | 'vm.restore'
}

export interface PlacementSettings {
  /** Bytes of disks, as guests see them, for each byte of a pool. */
  readonly diskOvercommit: number
  /** Share of a pool that no new VM counts on. */
  readonly diskReserveRatio: number
  readonly weights: Readonly<Record<string, number>>
}

/** Conditions on which, while critical, a host gets no new VMs: they would not start, or stand still. */
export const forbiddingConditions: ReadonlySet<string> = new Set([
  'hypervisor-away',
  'pool-full',
  'pool-silent',
  'firewall',
  'journal',
  'certificate',
  'policy'
])

export function forbidding(host: HostRecord): Condition | undefined {
  return host.report?.conditions.find(
    ({ id, severity }) => severity === 'critical' && forbiddingConditions.has(id)
  )
}

/** The smaller of what is not promised to VMs yet and what is not used now. */
export function freeMemory({ host, placed, availableBytes }: Candidate): number {
  const facts = host.report?.facts
  const unpromised = (facts?.vmMemoryBytesMax ?? facts?.memoryBytes ?? 0) - placed.memoryBytes
  return Math.max(0, Math.min(unpromised, availableBytes ?? unpromised))
}

/** Of what disks of VMs may grow to together. */
export function freeDisk({ host, placed }: Candidate, { diskOvercommit }: PlacementSettings): number {
  const capacity = host.report?.facts?.poolCapacityBytes ?? 0
  return Math.max(0, capacity * diskOvercommit - placed.diskBytes)
}

/** Those that people set, and those that follow from what the host tells of itself. */
export function labelsOf({ labels = {}, report }: HostRecord): Labels {
  const { accelerator, architecture } = report?.facts ?? {}
  return {
    ...labels,
    ...(accelerator !== undefined && { [`${ownLabelPrefix}accelerator`]: accelerator }),
    ...(architecture !== undefined && { [`${ownLabelPrefix}architecture`]: architecture })
  }
}

/** One of them, without making the rest. */
export function labelOf(host: HostRecord, key: string): string | undefined {
  return key.startsWith(ownLabelPrefix) ? labelsOf(host)[key] : host.labels?.[key]
}

/** The place that a host is part of when VMs of a group are spread; undefined where it has no such label. */
export function placeOf(host: HostRecord, spreadBy = 'host'): string | undefined {
  return spreadBy === 'host' ? host.id : labelOf(host, spreadBy)
}

/** How many VMs of the group each place has. */
export function groupPlaces(
  candidates: readonly Candidate[],
  { spreadBy }: Wanted
): ReadonlyMap<string, number> {
  const places = new Map<string, number>()
  for (const { host, groupMembers } of candidates) {
    const place = placeOf(host, spreadBy)
    if (place !== undefined) places.set(place, (places.get(place) ?? 0) + groupMembers)
  }
  return places
}
