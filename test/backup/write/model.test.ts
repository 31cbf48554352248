// Random histories of a disk against the plainest model: every snapshot is read back as the disk was, and costs what changed.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { blockBytes } from '../../../src/backup/disk.ts'
import { deriveVaultKeys } from '../../../src/backup/format/keys.ts'
import { nodeSlots, sameReference } from '../../../src/backup/format/node.ts'
import { backUpDisks, type DiskBackup } from '../../../src/backup/write/back-up.ts'
import { systemClock } from '../../../src/lib/clock.ts'
import { MemoryStore } from '../../support/memory-store.ts'
import { MemoryDisk, MemorySource, type SourceOptions } from './memory-source.ts'
import { ReadBack } from './read-back.ts'

const vm = '8f5fb1f0-3a3c-4a53-9d1c-222222222222'
const vmKey = Buffer.alloc(32, 4)
const keys = deriveVaultKeys(vmKey)
const signal = new AbortController().signal

type Step =
  | { readonly do: 'write'; readonly at: number; readonly blocks: number; readonly fill: number }
  | { readonly do: 'resize'; readonly blocks: number; readonly bytes: number }
  | {
      readonly do: 'backup'
      readonly tracking: 'all' | 'changed' | 'compare'
      readonly source: SourceOptions
    }

const anyBlocks = fc.oneof(
  { weight: 9, arbitrary: fc.integer({ min: 1, max: 40 }) },
  { weight: 1, arbitrary: fc.constantFrom(nodeSlots - 1, nodeSlots, nodeSlots + 1, 2 * nodeSlots + 3) }
)
const anyStep: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 5,
    arbitrary: fc.record({
      do: fc.constant('write' as const),
      at: fc.double({ min: 0, max: 1, noNaN: true }),
      blocks: fc.integer({ min: 1, max: 5 }),
      fill: fc.constantFrom(0, 0, 1, 2, 3, 255)
    })
  },
  {
    weight: 1,
    arbitrary: fc.record({
      do: fc.constant('resize' as const),
      blocks: anyBlocks,
      bytes: fc.constantFrom(0, 512, 4096)
    })
  },
  {
    weight: 3,
    arbitrary: fc.record({
      do: fc.constant('backup' as const),
      tracking: fc.constantFrom('all' as const, 'changed' as const, 'changed' as const, 'compare' as const),
      source: fc.record({
        tellsZeros: fc.boolean(),
        extentBytes: fc.constantFrom(blockBytes, 3 * blockBytes, 70_000, 5_000_000, 32_768)
      })
    })
  }
)

interface Snapshot {
  readonly backup: DiskBackup
  readonly bytes: Buffer
}

class History {
  readonly store = new MemoryStore()
  readonly disk: MemoryDisk
  readonly snapshots: Snapshot[] = []
  /** Since when the tree may count blocks that a smaller disk has lost. */
  #shrank = false

  constructor(sizeBytes: number) {
    this.disk = new MemoryDisk(sizeBytes)
  }

  async apply(step: Step): Promise<void> {
    if (step.do === 'write') this.#write(step)
    else if (step.do === 'resize') this.#resize(step.blocks * blockBytes + step.bytes)
    else await this.backUp(step.tracking, step.source)
  }

  #resize(sizeBytes: number): void {
    this.#shrank ||= sizeBytes < this.disk.bytes.length
    this.disk.resize(sizeBytes)
  }

  #checkAllocated({ allocatedBytes }: DiskBackup): void {
    const exact = allocatedBytesOf(this.disk.bytes)
    if (this.#shrank) assert.ok(allocatedBytes >= exact && allocatedBytes <= this.disk.bytes.length)
    else assert.equal(allocatedBytes, exact)
  }

  #write({ at, blocks, fill }: Step & { do: 'write' }): void {
    const offset = Math.floor(at * (this.disk.bytes.length - 1))
    const length = Math.min(blocks * blockBytes, this.disk.bytes.length - offset)
    // Equal blocks at different places, so that there is something to be stored once.
    this.disk.write(offset, Buffer.alloc(length, fill))
  }

  async backUp(tracking: 'all' | 'changed' | 'compare', options: SourceOptions) {
    const last = this.snapshots.at(-1)
    const source = new MemorySource(this.disk, options)
    const parent = last?.backup.root ?? null
    const parentSizeBytes = last?.backup.sizeBytes
    const parentAllocatedBytes = last?.backup.allocatedBytes
    const role = 'root'
    const actual = last === undefined ? 'all' : tracking
    if (actual === 'all') this.#shrank = false
    const disks = [{ role, source, parent, parentSizeBytes, parentAllocatedBytes, tracking: actual } as const]
    const onProgress = () => undefined
    const shared = {
      store: this.store,
      vm,
      vmKey,
      workers: 1,
      compressionLevel: 1,
      clock: systemClock,
      signal
    }
    const result = await backUpDisks({ ...shared, disks, onProgress })
    const [backup] = result.disks
    assert.ok(backup !== undefined)
    this.#checkAllocated(backup)
    this.snapshots.push({ backup, bytes: Buffer.from(this.disk.bytes) })
    this.disk.clean()
    return { ...result, backup, source }
  }

  check(): void {
    const reader = new ReadBack(this.store, vm, keys)
    for (const { backup, bytes } of this.snapshots)
      assert.ok(reader.disk(backup).equals(bytes), 'a snapshot as the disk was')
  }
}

function allocatedBytesOf(bytes: Buffer): number {
  let blocks = 0
  for (let at = 0; at < bytes.length; at += blockBytes)
    if (bytes.subarray(at, at + blockBytes).some((byte) => byte !== 0)) blocks++
  return Math.min(blocks * blockBytes, bytes.length)
}

test('every snapshot of a random history is read back as the disk was', async () => {
  const history = fc.array(anyStep, { minLength: 4, maxLength: 14 })
  await fc.assert(
    fc.asyncProperty(anyBlocks, fc.constantFrom(0, 512), history, async (blocks, bytes, steps) => {
      const model = new History(blocks * blockBytes + bytes)
      for (const step of steps) await model.apply(step)
      await model.backUp('changed', {})
      model.check()
    }),
    { numRuns: 20 }
  )
})

test('a backup of a disk that did not change keeps the root, reads nothing and stores nothing', async () => {
  await fc.assert(
    fc.asyncProperty(anyBlocks, fc.array(anyStep, { maxLength: 6 }), async (blocks, steps) => {
      const model = new History(blocks * blockBytes)
      for (const step of steps) await model.apply(step)
      const before = await model.backUp('changed', {})
      const objects = model.store.objects.size
      const calls = model.store.calls.length
      const after = await model.backUp('changed', {})
      assert.ok(sameReference(after.backup.root, before.backup.root))
      assert.deepEqual(
        [after.readBytes, after.storedBytes, after.packs, after.source.reads.length],
        [0, 0, 0, 0]
      )
      assert.deepEqual(
        [model.store.objects.size, model.store.calls.length],
        [objects, calls],
        'the store was not asked'
      )
      const compared = await model.backUp('compare', { tellsZeros: false })
      assert.ok(sameReference(compared.backup.root, before.backup.root))
      assert.equal(compared.storedBytes, 0, 'all is read, nothing is stored')
    }),
    { numRuns: 8 }
  )
})

test('a changed block of a disk of three levels costs one block and the path above it', async () => {
  const model = new History(3 * nodeSlots * blockBytes)
  for (let leaf = 0; leaf < 3; leaf++)
    model.disk.write(leaf * nodeSlots * blockBytes, Buffer.alloc(blockBytes, leaf + 1))
  const first = await model.backUp('all', {})
  model.disk.write(nodeSlots * blockBytes + 100, Buffer.from('changed'))
  const second = await model.backUp('changed', {})
  model.check()
  const reader = new ReadBack(model.store, vm, keys)
  const known = new Set(reader.entriesOf(first.backup))
  const fresh = reader.entriesOf(second.backup).filter((entry) => !known.has(entry))
  assert.equal(fresh.length, 3, 'root, leaf, block')
  assert.deepEqual(second.source.reads, [[nodeSlots * blockBytes, blockBytes]])
})

test('no pack key and nonce are used twice, whatever fails and is repeated', async () => {
  const seen = new Map<string, string>()
  const store = new MemoryStore()
  const disk = new MemoryDisk(30 * blockBytes)
  for (let round = 0; round < 6; round++) {
    disk.write(round * blockBytes, Buffer.alloc(3 * blockBytes, round + 1))
    const failing = round % 2 === 0
    const puts: Buffer[] = []
    const spy = new Proxy(store, {
      get: (target, name) => {
        if (name !== 'put') return Reflect.get(target, name).bind?.(target) ?? Reflect.get(target, name)
        return async (object: string, content: readonly Uint8Array[], wait: { signal: AbortSignal }) => {
          puts.push(Buffer.concat(content))
          if (failing) throw new Error('the store is full')
          await target.put(object, content, wait)
        }
      }
    })
    const source = new MemorySource(disk)
    const options = {
      store: spy,
      vm,
      vmKey,
      workers: 1,
      compressionLevel: round + 1,
      clock: systemClock,
      signal
    }
    const disks = [{ role: 'root', source, parent: null, tracking: 'all' as const }]
    const attempt = backUpDisks({ ...options, disks, onProgress: () => undefined })
    if (failing) await assert.rejects(attempt, /the store is full/)
    else await attempt
    for (const pack of puts) {
      const id = pack.subarray(16, 32).toString('hex')
      assert.equal(
        seen.get(id) ?? pack.toString('hex').slice(0, 200),
        pack.toString('hex').slice(0, 200),
        `pack ${id}`
      )
      assert.equal(seen.has(id), false, 'an id, and with it a key, belongs to one pack')
      seen.set(id, pack.toString('hex').slice(0, 200))
    }
  }
  assert.ok(seen.size >= 6)
})
