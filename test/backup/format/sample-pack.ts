// Packs and nodes of known content, for the tests of the format.

import { randomBytes } from 'node:crypto'
import { blockBytes } from '../../../src/backup/disk.ts'
import { deriveVaultKeys } from '../../../src/backup/format/keys.ts'
import { type Reference, TreeNode } from '../../../src/backup/format/node.ts'
import { PackBuilder, packBufferBytesMin } from '../../../src/backup/format/pack-builder.ts'

export const sampleKeys = deriveVaultKeys(Buffer.alloc(32, 7))
export const sampleBlocks = [
  Buffer.alloc(blockBytes, 'compresses well. '),
  randomBytes(blockBytes),
  Buffer.concat([randomBytes(100), Buffer.alloc(blockBytes - 100)])
]
export const sampleNode = Buffer.from('any bytes that are no block')

/** Three blocks and a node. */
export function samplePack() {
  const builder = new PackBuilder(sampleKeys, new Uint8Array(packBufferBytesMin + 4 * blockBytes))
  const numbers = sampleBlocks.map((block) => builder.append('block', block, 1))
  numbers.push(builder.append('node', sampleNode, 1))
  return { ...builder.finish(), numbers }
}

export function sampleReference(seed: number, packs = 3): Reference {
  return {
    address: Buffer.alloc(32, `address ${seed} `),
    pack: Buffer.alloc(16, `pack ${seed % packs} `),
    entry: (seed * 37) % 16_384
  }
}

export function nodeOf(level: number, slots: readonly number[], packs?: number): TreeNode {
  const node = new TreeNode(level)
  for (const slot of slots) node.set(slot, sampleReference(slot, packs))
  return node
}
