// Blocks of a disk that are read into one buffer and packed together. Neighbours are read in one go.

import { blockBytes, type DiskSource } from '../disk.ts'
import { addressBytes } from '../format/keys.ts'
import type { TreeNode } from '../format/node.ts'
import type { BackupEngine } from './engine.ts'
import type { LeafJob } from './leaf-job.ts'
import { batchHeadBytes, readRow } from './pack-messages.ts'
import type { Stock } from './stock.ts'

export interface BatchBlock {
  readonly job: LeafJob
  readonly slot: number
  /** Number of the block in its disk. */
  readonly block: number
}

export interface Batch {
  readonly buffer: ArrayBuffer
  readonly blocks: readonly BatchBlock[]
}

export interface BatchContext {
  readonly engine: BackupEngine
  readonly source: DiskSource
  /** A place for each read that the source may have in flight. */
  readonly places: Stock<undefined>
  onRead(bytes: number): void
}

/** Reads the blocks, has a thread pack them, and tells their leaves. */
export async function processBatch({ buffer, blocks }: Batch, context: BatchContext): Promise<void> {
  const { engine, onRead } = context
  const reads = segmentsOf(blocks).map((segment) => readSegment(buffer, segment, context))
  // Each has an owner of its own: when one fails the others are still waited for before the backup ends.
  for (const read of reads) engine.own(read.then(() => undefined))
  const [lengths, parents] = await Promise.all([Promise.all(reads), parentAddresses(blocks)])
  const rows = await engine.pack(buffer, blocks.length, parents)
  onRead(lengths.reduce((sum, length) => sum + length, 0))
  for (const [index, { job, slot }] of blocks.entries()) job.tell(slot, readRow(rows, index))
}

interface Segment {
  /** Number of the first block in its disk. */
  readonly block: number
  readonly at: number
  readonly count: number
}

function segmentsOf(blocks: readonly BatchBlock[]): Segment[] {
  const segments: Segment[] = []
  blocks.forEach(({ block }, at) => {
    const last = segments.at(-1)
    if (last !== undefined && last.block + last.count === block)
      segments[segments.length - 1] = { ...last, count: last.count + 1 }
    else segments.push({ block, at, count: 1 })
  })
  return segments
}

async function readSegment(
  buffer: ArrayBuffer,
  { block, at, count }: Segment,
  context: BatchContext
): Promise<number> {
  const { engine, source, places } = context
  const offset = block * blockBytes
  const length = Math.min(count * blockBytes, source.sizeBytes - offset)
  const start = batchHeadBytes + at * blockBytes
  await engine.bandwidth.take(length, engine.signal)
  await places.take()
  try {
    await source.read(offset, new Uint8Array(buffer, start, length), { signal: engine.signal })
  } finally {
    places.give(undefined)
  }
  if (length < count * blockBytes) new Uint8Array(buffer, start + length, count * blockBytes - length).fill(0)
  return length
}

/** The parent's address of each block, zeros where it has none. */
async function parentAddresses(blocks: readonly BatchBlock[]): Promise<Uint8Array> {
  const addresses = new Uint8Array(blocks.length * addressBytes)
  let leaf: TreeNode | null = null
  for (const [index, { job, slot }] of blocks.entries()) {
    if (index === 0 || job !== blocks[index - 1]?.job) leaf = await job.parent
    const reference = leaf?.get(slot)
    if (reference) addresses.set(reference.address, index * addressBytes)
  }
  return addresses
}
