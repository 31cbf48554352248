// Disks of up to terabytes with a few blocks in them: trees of all heights, grown and shrunk, against a plain map.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { blockBytes, type DiskSource, type Extent } from '../../../src/backup/disk.ts'
import { deriveVaultKeys } from '../../../src/backup/format/keys.ts'
import { blocksPerSlot } from '../../../src/backup/format/node.ts'
import { backUpDisks, type DiskBackup } from '../../../src/backup/write/back-up.ts'
import { systemClock } from '../../../src/lib/clock.ts'
import { MemoryStore } from '../../support/memory-store.ts'
import { ReadBack } from './read-back.ts'

const vm = '8f5fb1f0-3a3c-4a53-9d1c-444444444444'
const vmKey = Buffer.alloc(32, 6)
const keys = deriveVaultKeys(vmKey)

/** Blocks of one leaf, and of one node of each level above. */
const [leaf, second, third] = [blocksPerSlot(1), blocksPerSlot(2), blocksPerSlot(3)]

class SparseDisk {
  blocks: number
  /** What is not zeros: the byte that fills each block. */
  readonly fills = new Map<number, number>()
  readonly dirty = new Set<number>()

  constructor(blocks: number) {
    this.blocks = blocks
  }

  write(block: number, fill: number): void {
    if (fill === 0) this.fills.delete(block)
    else this.fills.set(block, fill)
    this.dirty.add(block)
  }

  resize(blocks: number): void {
    this.blocks = blocks
    for (const block of this.fills.keys()) {
      if (block < blocks) continue
      this.fills.delete(block)
      // Should the disk grow again: it reads as zeros then, which is another content than before.
      this.dirty.add(block)
    }
  }

  source(reads: number[]): DiskSource {
    const { fills, blocks } = this
    const dirty = new Set([...this.dirty].filter((block) => block < blocks))
    return {
      sizeBytes: blocks * blockBytes,
      readsInFlightMax: 2,
      async *extents(): AsyncGenerator<Extent> {
        const extent = (first: number, end: number, traits: { zero: boolean; dirty: boolean }) =>
          ({ offset: first * blockBytes, length: (end - first) * blockBytes, ...traits }) as const
        let at = 0
        for (const block of [...new Set([...fills.keys(), ...dirty])].sort((a, b) => a - b)) {
          if (block > at) yield extent(at, block, { zero: true, dirty: false })
          yield extent(block, block + 1, { zero: !fills.has(block), dirty: dirty.has(block) })
          at = block + 1
        }
        if (at < blocks) yield extent(at, blocks, { zero: true, dirty: false })
      },
      async read(offset, target) {
        for (let at = 0; at < target.length; at += blockBytes) {
          const block = (offset + at) / blockBytes
          reads.push(block)
          target.fill(fills.get(block) ?? 0, at, at + blockBytes)
        }
      },
      async close() {}
    }
  }
}

type Step =
  | { readonly do: 'write'; readonly at: number; readonly fill: number }
  | { readonly do: 'resize'; readonly blocks: number }
  | { readonly do: 'backup'; readonly tracking: 'changed' | 'compare' | 'all' }

const anySize = fc.constantFrom(
  1,
  5,
  leaf - 1,
  leaf,
  leaf + 1,
  3 * leaf,
  second - 1,
  second,
  second + 1,
  3 * second + 5,
  third,
  third + 7
)
/** Places where nodes of all levels begin and end, and any other. */
const anyPlace = fc.oneof(
  fc.constantFrom(0, leaf - 1, leaf, 2 * leaf, second - 1, second, 2 * second + leaf, third - 1, third),
  fc.nat(4 * leaf),
  fc.nat(third + 6)
)
const anyStep: fc.Arbitrary<Step> = fc.oneof(
  { weight: 6, arbitrary: fc.record({ do: fc.constant('write' as const), at: anyPlace, fill: fc.nat(3) }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('resize' as const), blocks: anySize }) },
  {
    weight: 3,
    arbitrary: fc.record({
      do: fc.constant('backup' as const),
      tracking: fc.constantFrom('changed' as const, 'changed' as const, 'compare' as const, 'all' as const)
    })
  }
)

class SparseHistory {
  readonly store = new MemoryStore()
  readonly disk: SparseDisk
  readonly snapshots: { backup: DiskBackup; fills: [number, number][] }[] = []

  constructor(blocks: number) {
    this.disk = new SparseDisk(blocks)
  }

  async apply(step: Step): Promise<void> {
    if (step.do === 'write') this.disk.write(step.at % this.disk.blocks, step.fill)
    else if (step.do === 'resize') this.disk.resize(step.blocks)
    else await this.backUp(step.tracking)
  }

  async backUp(tracking: 'changed' | 'compare' | 'all'): Promise<number[]> {
    const last = this.snapshots.at(-1)?.backup
    const reads: number[] = []
    const { disks } = await backUpDisks({
      store: this.store,
      vm,
      vmKey,
      disks: [
        {
          role: 'data',
          source: this.disk.source(reads),
          parent: last?.root ?? null,
          parentSizeBytes: last?.sizeBytes,
          tracking: last === undefined ? 'all' : tracking
        }
      ],
      compressionLevel: 1,
      workers: 1,
      clock: systemClock,
      signal: new AbortController().signal,
      onProgress: () => undefined
    })
    const [backup] = disks
    assert.ok(backup !== undefined)
    this.snapshots.push({ backup, fills: [...this.disk.fills].sort(([a], [b]) => a - b) })
    this.disk.dirty.clear()
    return reads
  }

  check(): void {
    const reader = new ReadBack(this.store, vm, keys)
    for (const { backup, fills } of this.snapshots) {
      const stored = [...reader.blocksOf(backup)].map(([block, plain]): [number, number] => {
        assert.ok(plain.equals(Buffer.alloc(blockBytes, plain[0])))
        return [block, plain[0] ?? 0]
      })
      assert.deepEqual(stored, fills)
    }
  }
}

test('trees of any height hold what the disk held, at every backup of a random history', async () => {
  await fc.assert(
    fc.asyncProperty(anySize, fc.array(anyStep, { minLength: 4, maxLength: 24 }), async (blocks, steps) => {
      const history = new SparseHistory(blocks)
      for (const step of steps) await history.apply(step)
      await history.backUp('changed')
      history.check()
    }),
    { numRuns: 25 }
  )
})

test('reads only what is dirty, at whatever height, and loads only the way to it', async () => {
  const history = new SparseHistory(third)
  for (const block of [0, leaf, second, second + leaf, 500 * second]) history.disk.write(block, 1)
  await history.backUp('all')
  history.disk.write(second + leaf, 2)
  const gets = history.store.calls.length
  assert.deepEqual(await history.backUp('changed'), [second + leaf])
  const asked = history.store.calls.slice(gets).filter((call) => call.startsWith('get '))
  assert.equal(asked.length, 3, 'the root, the node below it, the leaf')
  history.check()
})
