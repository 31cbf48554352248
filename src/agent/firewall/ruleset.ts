// The ruleset of the host: rendered whole from the inventory, as one transaction of nft. Pure.

import { bridgeTable } from './bridge-rules.ts'
import { inetTable } from './inet-rules.ts'
import type { Inventory } from './inventory.ts'
import { drop, equal, families, meta, type NftCommand } from './nft-json.ts'
import type { Counts } from './ruleset-parts.ts'

/** Replaces both tables and no other. Counters go on from the counts that are given. */
export function renderRuleset(inventory: Inventory, counts: Counts = new Map()): NftCommand[] {
  return [...bridgeTable(inventory, counts), ...inetTable(inventory, counts)]
}

/** Takes both tables away, there or not. */
export function renderRemoval(table: string): NftCommand[] {
  return families.flatMap((family) => {
    const named = { table: { family, name: table } }
    return [{ add: named }, { delete: named }]
  })
}

/** What a kernel that can match the bridge of a port (nft_meta_bridge) takes, and another one refuses. */
export function bridgeNamesProbe(name: string): NftCommand[] {
  const table = { family: 'bridge', table: name }
  return [
    { add: { table: { family: 'bridge', name } } },
    { add: { chain: { ...table, name: 'probe' } } },
    { add: { rule: { ...table, chain: 'probe', expr: [equal(meta('ibrname'), 'hostlet'), drop] } } }
  ]
}
