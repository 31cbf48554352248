// Restoring: the bytes come back, nothing is written that was not checked, and failures leave nothing.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { blockBytes, type DiskTarget } from '../../../src/backup/disk.ts'
import { restoreDisk } from '../../../src/backup/read/restore.ts'
import { systemClock } from '../../../src/lib/clock.ts'
import { FakeClock } from '../../support/fake-clock.ts'
import { contentOf, diskOf, type PlainDisk } from '../plain-writer.ts'
import { createBench } from '../vault-bench.ts'
import { MemoryTarget, packsOf, restore, verify } from './read-bench.ts'

describe('restoring a disk', () => {
  it('gives back what was stored, whatever was stored, and writes no zeros', async () => {
    const bench = await createBench()
    const fills = fc.array(fc.integer({ min: 0, max: 9 }), { maxLength: 40 })
    await fc.assert(
      fc.asyncProperty(
        fills,
        fc.nat(blockBytes - 1),
        fc.integer({ min: 1, max: 9 }),
        async (plan, missing, entriesMax) => {
          const disk = diskOf(plan, Math.max(0, plan.length * blockBytes - missing))
          const vault = await bench.open()
          const taken = await bench.backUp(vault, disk, { entriesMax })
          const target = await restore(bench, vault, taken.id)
          assert.ok(target.content.equals(contentOf(disk)))
          assert.equal(target.state, 'finished')
          const writtenBytes = target.written.reduce((sum, { length }) => sum + length, 0)
          assert.equal(
            writtenBytes,
            [...disk.blocks.values()].reduce((sum, { length }) => sum + length, 0)
          )
          assert.ok(target.inFlightSeen <= target.writesInFlightMax)
        }
      ),
      { numRuns: 15 }
    )
  })

  it('reads trees of several levels', async () => {
    const bench = await createBench()
    const vault = await bench.open()
    const sizeBytes = 1_030 * 1_024 * blockBytes
    const { blocks } = diskOf([5, 0, 6])
    const far = new Map([
      ...blocks,
      [1_025, Buffer.alloc(blockBytes, 7)],
      [1_029 * 1_024 + 3, Buffer.alloc(blockBytes, 8)]
    ])
    const disk: PlainDisk = { sizeBytes, blocks: far }
    const { id, disk: stored } = await bench.backUp(vault, disk)
    assert.equal(stored.levels, 3)
    const report = await verify(bench, vault, id)
    assert.deepEqual([report.outcome, report.goodBlocks], ['good', 4])
    const { body, vmKey } = await vault.snapshot(id, bench)
    const written = new Map<number, Buffer>()
    const target: DiskTarget = {
      sizeBytes,
      writesInFlightMax: 4,
      write: async (offset, data) => void written.set(offset / blockBytes, Buffer.from(data)),
      finish: async () => undefined,
      abort: async () => undefined
    }
    const [first] = body.disks
    assert.ok(first)
    await restoreDisk({ ...bench, vmKey, disk: first, target, clock: systemClock })
    assert.deepEqual(written.get(1_025), far.get(1_025))
    assert.deepEqual(written.get(1_029 * 1_024 + 3), far.get(1_029 * 1_024 + 3))
  })

  it('keeps to a limit of bytes per second', async () => {
    const bench = await createBench()
    const vault = await bench.open()
    const taken = await bench.backUp(vault, diskOf(Array.from({ length: 200 }, (_, index) => index + 1)))
    const { body, vmKey } = await vault.snapshot(taken.id, bench)
    const [disk] = body.disks
    assert.ok(disk)
    const clock = new FakeClock()
    const target = new MemoryTarget(disk.sizeBytes)
    const done = restoreDisk({
      ...bench,
      vmKey,
      disk,
      target,
      clock,
      bytesPerSecond: 200 * blockBytes,
      workers: 1
    })
    while (target.state === 'open') {
      await new Promise((resolve) => setImmediate(resolve))
      if (clock.pending > 0) await clock.advance(10)
    }
    await done
    assert.ok(clock.monotonic() >= 500, `took ${clock.monotonic()} ms of the clock`)
    assert.ok(target.content.equals(contentOf(taken.disk.content)))
  })

  it('tells how far it is, up to all of it', async () => {
    const bench = await createBench()
    const vault = await bench.open()
    const taken = await bench.backUp(vault, diskOf([1, 2, 0, 3]))
    const { body, vmKey } = await vault.snapshot(taken.id, bench)
    const [disk] = body.disks
    assert.ok(disk)
    const seen: { doneBytes: number; totalBytes: number }[] = []
    const target = new MemoryTarget(disk.sizeBytes)
    await restoreDisk({
      ...bench,
      vmKey,
      disk,
      target,
      clock: systemClock,
      onProgress: (progress) => seen.push(progress)
    })
    assert.deepEqual(seen.at(-1), { doneBytes: 3 * blockBytes, totalBytes: 3 * blockBytes })
  })

  it('aborts the target when the signal says so', async () => {
    const bench = await createBench()
    const vault = await bench.open()
    const taken = await bench.backUp(vault, diskOf([1, 2, 3]))
    const { body, vmKey } = await vault.snapshot(taken.id, bench)
    const [disk] = body.disks
    assert.ok(disk)
    const target = new MemoryTarget(disk.sizeBytes)
    const signal = AbortSignal.abort(new Error('no more'))
    await assert.rejects(
      restoreDisk({ ...bench, vmKey, disk, target, clock: systemClock, signal }),
      /no more/
    )
    assert.equal(target.state, 'aborted')
  })

  it('tells what was wrong first, also where the target cannot be taken away', async () => {
    const bench = await createBench()
    const vault = await bench.open()
    const taken = await bench.backUp(vault, diskOf([1, 2, 3]))
    const { body, vmKey } = await vault.snapshot(taken.id, bench)
    const [disk] = body.disks
    assert.ok(disk)
    for (const name of packsOf(bench)) bench.store.objects.delete(name)
    const target = new MemoryTarget(disk.sizeBytes)
    target.abort = () => Promise.reject(new Error('no such file any more'))
    await assert.rejects(restoreDisk({ ...bench, vmKey, disk, target, clock: systemClock }), {
      code: 'E_CORRUPT'
    })
  })

  it('refuses a target that is too small, and writes nothing to it', async () => {
    const bench = await createBench()
    const vault = await bench.open()
    const taken = await bench.backUp(vault, diskOf([1, 2, 3]))
    const { body, vmKey } = await vault.snapshot(taken.id, bench)
    const [disk] = body.disks
    assert.ok(disk)
    const target = new MemoryTarget(blockBytes)
    await assert.rejects(restoreDisk({ ...bench, vmKey, disk, target, clock: systemClock }), {
      code: 'E_BAD_REQUEST'
    })
    assert.deepEqual([target.state, target.written], ['aborted', []])
  })
})
