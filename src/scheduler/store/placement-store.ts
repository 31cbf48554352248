// What the store knows for placing VMs: labels of hosts, what is promised on each, and why VMs came to stand where they do.

import type { Labels, PlacementView } from '../../protocol/placement.ts'
import type { HostLoad } from '../placement/candidate.ts'

export interface PlacementStore {
  /**
   * Sets and removes labels of a host, all or none; resolves with those that it has then. Throws E_BAD_REQUEST where they
   * would be more than `labelsMax`.
   */
  label(host: string, change: { set: Labels; remove: readonly string[] }): Promise<Labels>
  /** What the VMs that are placed on each host may take together; of those that were torn down and are kept, their disks. */
  loadByHost(): Promise<ReadonlyMap<string, HostLoad>>
  /** How many VMs of a group each host has, without those that are only kept. */
  groupByHost(group: string): Promise<ReadonlyMap<string, number>>
  /** Why the VM that a command made stands where it does. */
  of(command: string): Promise<PlacementView | undefined>
}
