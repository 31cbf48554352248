// Which ranges of which packs hold the blocks of a leaf: few long reads instead of many short ones. Pure.

import { corrupt } from '../format/corrupt.ts'
import { kindOf } from '../format/entry.ts'
import type { TreeNode } from '../format/node.ts'
import { findEntry, type PackEntry } from '../format/pack.ts'
import { StoredFault } from './fault.ts'
import type { OpenPack } from './packs.ts'

/** Longest read, in bytes of the pack: what one worker gets at a time. */
export const runBytesMax = 4 * 1024 * 1024
/** Dead bytes between two entries that are cheaper read than left out with a request of its own. */
const gapBytesMax = 128 * 1024

/** One stored block and where it belongs; the same one may stand in several places. */
export interface WantedBlock {
  readonly entry: number
  readonly address: Uint8Array
  /** Numbers of blocks of the disk, ascending. */
  readonly blocks: number[]
}

export interface WantedPack {
  readonly id: Uint8Array
  readonly wanted: readonly WantedBlock[]
}

export interface Run {
  readonly pack: OpenPack
  readonly offset: number
  readonly length: number
  readonly items: readonly { readonly entry: PackEntry; readonly wanted: WantedBlock }[]
}

/** The blocks of a leaf by the packs that they lie in, in the order of their first use. */
export function packsOfLeaf(node: TreeNode, firstBlock: number): WantedPack[] {
  const packs = new Map<string, { id: Uint8Array; wanted: Map<string, WantedBlock> }>()
  for (const [slot, { pack, entry, address }] of node.references()) {
    const key = Buffer.from(pack).toString('latin1')
    const of = packs.get(key) ?? { id: pack, wanted: new Map<string, WantedBlock>() }
    packs.set(key, of)
    // With the address: a tree that means two blocks by one entry is wrong in one of them.
    const wantedKey = `${entry} ${Buffer.from(address).toString('latin1')}`
    const wanted = of.wanted.get(wantedKey)
    if (wanted === undefined) of.wanted.set(wantedKey, { entry, address, blocks: [firstBlock + slot] })
    else wanted.blocks.push(firstBlock + slot)
  }
  return [...packs.values()].map(({ id, wanted }) => ({ id, wanted: [...wanted.values()] }))
}

/** The reads, of at most so many blocks each, by their place in the pack; what its table does not have goes to `lost`. */
export function planRuns(
  pack: OpenPack,
  wanted: readonly WantedBlock[],
  blocksMax: number,
  lost: (wanted: WantedBlock, fault: StoredFault) => void
): Run[] {
  const items = wanted.flatMap((one) => {
    const entry = findEntry(pack.entries, one.entry)
    if (entry !== undefined && kindOf(entry.flags) === 'block') return [{ entry, wanted: one }]
    lost(one, notThere(pack, one.entry))
    return []
  })
  items.sort((one, other) => one.entry.offset - other.entry.offset)
  const runs: { pack: OpenPack; offset: number; length: number; items: typeof items }[] = []
  for (const item of items) {
    const last = runs.at(-1)
    const { offset, length } = item.entry
    const reach = last === undefined ? 0 : offset + length - last.offset
    const near = last !== undefined && offset - (last.offset + last.length) <= gapBytesMax
    if (last !== undefined && near && reach <= runBytesMax && last.items.length < blocksMax) {
      last.length = Math.max(last.length, reach)
      last.items.push(item)
    } else runs.push({ pack, offset, length, items: [item] })
  }
  return runs
}

function notThere({ name }: OpenPack, entry: number): StoredFault {
  return new StoredFault('missing-entry', name, corrupt({ object: name, entry }, 'is no block of its table'))
}
