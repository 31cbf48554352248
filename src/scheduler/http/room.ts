// The host for a VM, from what the store knows of all of them.

import type { PlacementView, PlacementWish } from '../../protocol/placement.ts'
import type { SchedulerConfig } from '../config.ts'
import type { Candidate, Wanted } from '../placement/candidate.ts'
import { type Asked, explainNamed, type Placement, place } from '../placement/place.ts'
import type { HostRecord, Store } from '../store/store.ts'
import { findHost, fleetItemsMax } from './lookup.ts'

export interface Seeker {
  readonly wanted: Wanted
  /** The host that the asker names. */
  readonly host?: string | undefined
  /** Hosts that come before all others. */
  readonly preferred?: ReadonlySet<string>
}

interface Sources {
  readonly store: Store
  readonly config: Pick<SchedulerConfig, 'placement'>
}

/** The host that was named, or the best. Throws E_NOT_FOUND for one that is not there, and as `place` does. */
export async function hostFor(
  sources: Sources,
  seeker: Seeker
): Promise<{ host: HostRecord; placement: PlacementView }> {
  const named = seeker.host === undefined ? undefined : await findHost(sources.store, seeker.host)
  const asked = await askedOf(sources, seeker)
  if (named !== undefined) return { host: named, placement: explainNamed(asked, named.id) }
  const { host, explanation }: Placement = place(asked)
  return { host, placement: explanation }
}

export async function askedOf(
  { store, config }: Sources,
  { wanted, preferred }: Pick<Seeker, 'wanted' | 'preferred'>
): Promise<Asked> {
  return {
    wanted,
    candidates: await candidatesOf(store, wanted.group),
    settings: config.placement,
    ...(preferred && { preferred })
  }
}

async function candidatesOf(store: Store, group: string | undefined): Promise<readonly Candidate[]> {
  const { items } = await store.hosts.list(fleetItemsMax)
  const placed = await store.placements.loadByHost()
  const latest = await store.metrics.latestOfHosts()
  const members = group === undefined ? undefined : await store.placements.groupByHost(group)
  return items.map((host) => ({
    host,
    placed: placed.get(host.id) ?? { memoryBytes: 0, cpus: 0, diskBytes: 0 },
    availableBytes: latest.get(host.id)?.sample.memoryAvailableBytes,
    poolAvailableBytes: latest.get(host.id)?.sample.poolAvailableBytes,
    groupMembers: members?.get(host.id) ?? 0
  }))
}

/** A VM's needs and wishes as placement reads them. */
export function wantedOf(
  vm: {
    readonly cpus: number
    readonly memoryBytes: number
    readonly rootDiskBytes: number
    readonly dataDiskBytes?: number | undefined
    readonly profile?: string | undefined
  },
  wish: PlacementWish | undefined,
  verb: Wanted['verb']
): Wanted {
  const { cpus, memoryBytes, rootDiskBytes, dataDiskBytes = 0, profile } = vm
  return {
    ...wish,
    ...{ verb, cpus, memoryBytes, diskBytes: rootDiskBytes + dataDiskBytes },
    ...(profile === undefined ? {} : { profile })
  }
}
