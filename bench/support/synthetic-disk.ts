// A large disk whose content is computed: blocks of a small pool again and again, some marked so that they are like no other.

import { randomFillSync } from 'node:crypto'
import { blockBytes, type DiskSource, type Extent } from '../../src/backup/disk.ts'

export interface SyntheticOptions {
  readonly sizeBytes: number
  /** Whole blocks, one after the other. */
  readonly pool: Buffer
  /** Every so many blocks is one that no other is like; none by default. */
  readonly uniqueEvery?: number
  /** Every other piece of this length reads as zeros; none by default. */
  readonly holeBytes?: number
  /** Blocks that were written since the last backup, with what they hold; undefined: everything is dirty. */
  readonly changes?: ReadonlyMap<number, Buffer>
}

export function syntheticDisk(options: SyntheticOptions): DiskSource {
  const { sizeBytes, changes } = options
  return {
    sizeBytes,
    readsInFlightMax: 8,
    extents: () => (changes === undefined ? allExtents(options) : changedExtents(sizeBytes, changes)),
    read: async (offset, target) => {
      for (let at = 0; at < target.length; at += blockBytes)
        target.set(blockOf(options, (offset + at) / blockBytes), at)
      mark(options, offset / blockBytes, target)
    },
    close: async () => undefined
  }
}

/** Block of the disk by its number, without the mark of those that are like no other. */
export function blockOf({ pool, changes }: SyntheticOptions, block: number): Buffer {
  const inPool = (block * 7) % (pool.length / blockBytes)
  return changes?.get(block) ?? pool.subarray(inPool * blockBytes, (inPool + 1) * blockBytes)
}

function mark({ uniqueEvery }: SyntheticOptions, first: number, target: Uint8Array): void {
  if (uniqueEvery === undefined) return
  for (let at = 0; at < target.length; at += blockBytes)
    if ((first + at / blockBytes) % uniqueEvery === 0) randomFillSync(target, at, 16)
}

async function* allExtents({ sizeBytes, holeBytes }: SyntheticOptions): AsyncGenerator<Extent> {
  if (holeBytes === undefined) yield { offset: 0, length: sizeBytes, zero: false, dirty: true }
  else
    for (let offset = 0; offset < sizeBytes; offset += holeBytes)
      yield { offset, length: holeBytes, zero: (offset / holeBytes) % 2 === 1, dirty: true }
}

async function* changedExtents(
  sizeBytes: number,
  changes: ReadonlyMap<number, Buffer>
): AsyncGenerator<Extent> {
  let end = 0
  for (const block of [...changes.keys()].sort((one, other) => one - other)) {
    const offset = block * blockBytes
    if (offset > end) yield { offset: end, length: offset - end, zero: false, dirty: false }
    yield { offset, length: blockBytes, zero: false, dirty: true }
    end = offset + blockBytes
  }
  if (end < sizeBytes) yield { offset: end, length: sizeBytes - end, zero: false, dirty: false }
}
