// What is to be done with each block of a disk, from the extents of its source: pure, in order, as long runs.

import { HostletError } from '../../errors.ts'
import { blockBytes, type Extent } from '../disk.ts'
import { blocksOf } from '../format/node.ts'

export const blockActions = ['keep', 'zero', 'read'] as const
/** keep: the parent's reference stays; zero: no reference; read: what is read decides. */
export type BlockAction = (typeof blockActions)[number]

/** all: everything is stored anew; changed: dirty blocks are read; compare: all are read, those the parent has are not stored. */
export type Tracking = 'all' | 'changed' | 'compare'

export interface Run {
  readonly first: number
  readonly count: number
  readonly action: BlockAction
}

export interface RunOptions {
  readonly sizeBytes: number
  readonly tracking: Tracking
  /** Size of the disk in the parent; blocks from the smaller of both ends on are read whatever the source says. */
  readonly parentSizeBytes: number
}

/**
 * Runs over the whole disk, neighbours of one action merged. Throws E_PROTOCOL when the extents do not cover the disk
 * in order and without gaps.
 */
export async function* planRuns(extents: AsyncIterable<Extent>, options: RunOptions): AsyncGenerator<Run> {
  let pending: Run | undefined
  for await (const run of rawRuns(extents, options)) {
    if (pending !== undefined && pending.action === run.action) {
      pending = { ...pending, count: pending.count + run.count }
      continue
    }
    if (pending !== undefined) yield pending
    pending = run
  }
  if (pending !== undefined) yield pending
}

interface Traits {
  dirty: boolean
  data: boolean
}

async function* rawRuns(extents: AsyncIterable<Extent>, options: RunOptions): AsyncGenerator<Run> {
  const { sizeBytes } = options
  const blocks = blocksOf(sizeBytes)
  /** The block that extents have covered in part, if `offset` lies within one. */
  let partial: Traits = { dirty: false, data: false }
  let offset = 0
  for await (const extent of extents) {
    checkExtent(extent, offset, sizeBytes)
    const { dirty, zero, length } = extent
    const end = offset + length
    if (offset % blockBytes !== 0) partial = { dirty: partial.dirty || dirty, data: partial.data || !zero }
    const firstWhole = Math.ceil(offset / blockBytes)
    const endWhole = end === sizeBytes ? blocks : Math.floor(end / blockBytes)
    if (offset % blockBytes !== 0 && endWhole >= firstWhole)
      yield* actions(firstWhole - 1, 1, partial, options)
    if (endWhole > firstWhole)
      yield* actions(firstWhole, endWhole - firstWhole, { dirty, data: !zero }, options)
    if (end > Math.max(endWhole, firstWhole) * blockBytes) partial = { dirty, data: !zero }
    offset = end
  }
  if (offset !== sizeBytes) throw wrongExtents(`end at ${offset} of ${sizeBytes} bytes`)
}

function checkExtent(extent: Extent, offset: number, sizeBytes: number): void {
  const { length } = extent
  if (extent.offset !== offset) throw wrongExtents(`go on at ${extent.offset} after ${offset}`)
  if (!Number.isSafeInteger(length) || length < 1 || length > sizeBytes - offset)
    throw wrongExtents(`have one of ${length} bytes at ${offset} of ${sizeBytes}`)
}

function wrongExtents(how: string): HostletError {
  return new HostletError('E_PROTOCOL', `the extents of the disk ${how}`)
}

/** One run, or two where the part of the disk begins that the parent says nothing of. */
function* actions(first: number, count: number, traits: Traits, options: RunOptions): Generator<Run> {
  const { sizeBytes, parentSizeBytes, tracking } = options
  const fresh: BlockAction = traits.data ? 'read' : 'zero'
  const action = tracking === 'changed' && !traits.dirty ? 'keep' : fresh
  const unknownFrom =
    sizeBytes === parentSizeBytes
      ? Number.POSITIVE_INFINITY
      : Math.floor(Math.min(sizeBytes, parentSizeBytes) / blockBytes)
  const known = Math.min(Math.max(unknownFrom - first, 0), count)
  if (known > 0) yield { first, count: known, action }
  if (known < count) yield { first: first + known, count: count - known, action: fresh }
}
