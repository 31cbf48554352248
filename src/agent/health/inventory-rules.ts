// What may be wrong with what a host has: VMs that are not as recorded, leftovers, VMs without a past.

import type { DriftHealth } from '../drift/watch.ts'
import type { ConditionRule } from './conditions.ts'
import { namesOf } from './names.ts'

export interface InventoryHealth {
  readonly drift: readonly DriftHealth[]
  /** Of each kind, those that are provably ours. */
  readonly orphans: Readonly<Partial<Record<string, number>>>
  /** VMs that were taken over from libvirt. */
  readonly adopted: readonly string[]
}

export const healthyInventory: InventoryHealth = { drift: [], orphans: {}, adopted: [] }

export const inventoryRules: readonly ConditionRule[] = [
  {
    id: 'drift',
    holds: ({ inventory: { drift } }) => {
      const told = drift
        .map(({ vm, items }) => ({ vm, items: items.filter(({ severity }) => severity !== 'info') }))
        .filter(({ items }) => items.length > 0)
      const isCritical = ({ items }: DriftHealth) => items.some(({ severity }) => severity === 'critical')
      const [worst] = told.toSorted((left, right) => Number(isCritical(right)) - Number(isCritical(left)))
      const item = worst?.items.find(({ severity }) => severity === 'critical') ?? worst?.items[0]
      if (worst === undefined || item === undefined) return undefined
      return {
        severity: told.some(isCritical) ? 'critical' : 'warning',
        message: `${namesOf(told.map(({ vm }) => vm))}: not as their records say. ${worst.vm}: ${item.title}: ${item.recorded} is recorded, ${item.actual} is so. See "hostlet vm show ${worst.vm}".`
      }
    }
  },
  {
    id: 'orphans',
    holds: ({ inventory: { orphans } }) => {
      const words = Object.entries(orphans).map(([kind, count]) => `${count} ${kind}`)
      if (words.length === 0) return undefined
      return {
        severity: 'info',
        message: `VMs that are gone left something here: ${words.join(', ')}. See what with "hostlet host clean HOST --dry-run", and remove it with "hostlet host clean HOST".`
      }
    }
  },
  {
    id: 'adopted',
    holds: ({ inventory: { adopted } }) => {
      if (adopted.length === 0) return undefined
      return {
        severity: 'info',
        message: `${namesOf(adopted)}: taken over from libvirt, without a record on this host: its state directory was lost, or is another one. What commands did to them before is not known here, and their next backup compares everything. Schedules, retention, rules, cores and generations came with them; keys of disks may not have: see the condition "disk-key-missing".`
      }
    }
  }
]
