// What a listing of our tables says: whether the rules are still the ones that were applied, and what they counted.

import { createHash } from 'node:crypto'
import type { NftObject } from './nft-json.ts'
import type { Count, Counts } from './ruleset-parts.ts'

/** The same for the same rules, whatever they counted and whatever numbers the kernel gave them. */
export function digestOf(objects: readonly NftObject[]): string {
  const lines = objects.map((object) => JSON.stringify(Object.entries(object).map(stable)))
  return createHash('sha256').update(lines.join('\n')).digest('hex')
}

function stable([kind, fields]: [string, Readonly<Record<string, unknown>>]): unknown {
  const { handle: _handle, packets: _packets, bytes: _bytes, elem, ...rest } = fields
  if (!Array.isArray(elem)) return [kind, rest]
  return [kind, rest, elem.map((each) => JSON.stringify(each)).sort()]
}

/** Tables, chains and rules: sets may show other members than were given, where those were merged. */
export function ruleCount(objects: readonly NftObject[]): number {
  return objects.filter(({ chain, rule }) => chain !== undefined || rule !== undefined).length
}

export function countsIn(objects: readonly NftObject[]): Counts {
  const counts = new Map<string, Count>()
  for (const { counter } of objects) {
    if (counter === undefined) continue
    const { family, name, packets, bytes } = counter
    counts.set(`${family} ${name}`, { packets: Number(packets), bytes: Number(bytes) })
  }
  return counts
}
