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

/**
 * Of what is given and what is there: chains, rules, and members of sets and maps. Ranges may be shown merged, and are not
 * counted.
 */
export function sizeOf(objects: readonly NftObject[]): string {
  const rules = objects.filter(({ chain, rule }) => chain !== undefined || rule !== undefined).length
  const nameOf = ({ family, name }: Readonly<Record<string, unknown>>) => `${family} ${name}`
  const ranges = new Set(objects.flatMap(({ set }) => (set?.flags === undefined ? [] : [nameOf(set)])))
  const members = objects
    .map(({ element, set, map }) => element ?? set ?? map ?? {})
    .filter((each) => Array.isArray(each.elem) && !ranges.has(nameOf(each)))
    .map(({ elem }) => new Set((elem as unknown[]).map((each) => JSON.stringify(each))).size)
  return `${rules} rules, ${members.reduce((sum, each) => sum + each, 0)} members`
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
