// The host with most room for a VM, from what the store knows of all of them.

import { HostletError } from '../../errors.ts'
import { type Candidate, place, type Wanted } from '../placement.ts'
import type { HostRecord, Store } from '../store/store.ts'
import { fleetItemsMax } from './lookup.ts'

/** One of `preferred` where they have room; else any. Throws as `place` does. */
export async function hostWithRoom(
  store: Store,
  wanted: Wanted,
  preferred: ReadonlySet<string> = new Set()
): Promise<HostRecord> {
  const candidates = await candidatesOf(store)
  const better = candidates.filter(({ host }) => preferred.has(host.id))
  if (better.length === 0) return place(wanted, candidates)
  try {
    return place(wanted, better)
  } catch (error) {
    if (!(error instanceof HostletError) || error.advice !== 'retry') throw error
    return place(wanted, candidates)
  }
}

async function candidatesOf(store: Store): Promise<readonly Candidate[]> {
  const { items } = await store.hosts.list(fleetItemsMax)
  const placed = await store.vms.memoryByHost()
  const latest = await store.metrics.latestOfHosts()
  return items.map((host) => ({
    host,
    placedBytes: placed.get(host.id) ?? 0,
    availableBytes: latest.get(host.id)?.sample.memoryAvailableBytes
  }))
}
