// Backups that are cancelled, or whose source, store or parent fail: one clear error, and nothing that goes on.

import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { test } from 'node:test'
import fc from 'fast-check'
import { blockBytes } from '../../../src/backup/disk.ts'
import { type BackUpOptions, backUpDisks, type DiskToBackUp } from '../../../src/backup/write/back-up.ts'
import { HostletError } from '../../../src/errors.ts'
import { systemClock } from '../../../src/lib/clock.ts'
import { MemoryStore } from '../../support/memory-store.ts'
import { MemoryDisk, MemorySource, type SourceOptions } from './memory-source.ts'

const vm = '8f5fb1f0-3a3c-4a53-9d1c-333333333333'
const vmKey = Buffer.alloc(32, 5)
const disk = new MemoryDisk(24 * 1024 * 1024)
disk.write(0, randomBytes(disk.bytes.length))

function backUp(
  store: MemoryStore,
  source: MemorySource,
  options: Partial<BackUpOptions & DiskToBackUp> = {}
) {
  const { parent = null, tracking = 'all', ...others } = options
  return backUpDisks({
    store,
    vm,
    vmKey,
    disks: [{ role: 'root', source, parent, tracking }],
    compressionLevel: 1,
    workers: 2,
    clock: systemClock,
    signal: new AbortController().signal,
    onProgress: () => undefined,
    ...others
  })
}

function sourceOf(options: SourceOptions = {}) {
  return new MemorySource(disk, options)
}

/** Threads and the like that would keep the process alive. */
function resources(): string[] {
  return process.getActiveResourcesInfo().filter((name) => name === 'MessagePort' || name === 'Worker')
}

test('an abort at any moment rejects with its reason and leaves no thread, read or upload behind', async () => {
  const before = resources().length
  await fc.assert(
    fc.asyncProperty(fc.integer({ min: 0, max: 60 }), fc.boolean(), async (steps, inStore) => {
      const controller = new AbortController()
      const reason = new HostletError('E_CANCELLED', 'enough')
      let left = steps
      const count = () => {
        if (left-- <= 0) controller.abort(reason)
      }
      const store = new MemoryStore({ before: inStore ? count : () => undefined })
      const source = sourceOf({ before: count })
      const attempt = backUp(store, source, { signal: controller.signal, onProgress: count })
      const [outcome] = await Promise.allSettled([attempt])
      if (controller.signal.aborted && outcome?.status === 'rejected') assert.equal(outcome.reason, reason)
      else assert.equal(outcome?.status, 'fulfilled')
      assert.equal(source.inFlight, 0)
      const calls = store.calls.length
      await new Promise((resolve) => setImmediate(resolve))
      assert.equal(store.calls.length, calls)
      assert.equal(resources().length, before)
    }),
    { numRuns: 25 }
  )
})

test('is cancelled before it begins, and while a source or a store hangs', async () => {
  const reason = new HostletError('E_CANCELLED', 'no')
  await assert.rejects(backUp(new MemoryStore(), sourceOf(), { signal: AbortSignal.abort(reason) }), reason)
  const untilAborted = (signal: AbortSignal) =>
    new Promise<void>((_, reject) => signal.addEventListener('abort', () => reject(signal.reason)))
  const controller = new AbortController()
  const source = sourceOf({
    before: (_offset, _length, { signal }) => {
      queueMicrotask(() => controller.abort(reason))
      return untilAborted(signal)
    }
  })
  await assert.rejects(backUp(new MemoryStore(), source, { signal: controller.signal }), reason)
})

test('a failing store fails the backup with the error of the store', async () => {
  for (const failing of [1, 2, 3]) {
    const full = new HostletError('E_CAPACITY', 'the repository is full')
    let puts = 0
    const store = new MemoryStore({
      before: (call) => {
        if (call === 'put' && ++puts === failing) throw full
      }
    })
    const [outcome] = await Promise.allSettled([backUp(store, sourceOf())])
    assert.ok(
      puts >= failing
        ? outcome?.status === 'rejected' && outcome.reason === full
        : outcome?.status === 'fulfilled'
    )
  }
})

test('a failing source fails the backup with the error of the source, at any read', async () => {
  for (const failing of [1, 5, 24]) {
    const lost = new HostletError('E_UNAVAILABLE', 'the export is gone')
    let reads = 0
    const source = sourceOf({
      before: () => {
        if (++reads === failing) throw lost
      }
    })
    await assert.rejects(backUp(new MemoryStore(), source), lost)
  }
})

test('refuses extents with gaps, overlaps, or beyond the end', async () => {
  const extent = (offset: number, length: number) => ({ offset, length, zero: false, dirty: true })
  const size = disk.bytes.length
  const wrong = [
    [],
    [extent(0, size - 1)],
    [extent(0, size + 1)],
    [extent(0, 5), extent(6, size - 6)],
    [extent(0, 0), extent(0, size)],
    [extent(0, 5), extent(4, size - 4)],
    [extent(0, Number.NaN)]
  ]
  for (const extents of wrong) {
    const source = sourceOf()
    source.extents = async function* () {
      yield* extents
    }
    await assert.rejects(backUp(new MemoryStore(), source), { code: 'E_PROTOCOL' })
  }
})

test('a damaged, cut off or missing node of the parent is E_CORRUPT and names its object', async () => {
  const small = new MemoryDisk(3 * blockBytes)
  small.write(0, Buffer.alloc(3 * blockBytes, 9))
  const store = new MemoryStore()
  const first = await backUp(store, new MemorySource(small))
  const parent = first.disks[0]?.root ?? null
  assert.ok(parent !== null)
  small.clean()
  small.write(0, Buffer.alloc(100, 1))
  const name = [...store.objects.keys()].find((object) =>
    object.includes(Buffer.from(parent.pack).toString('hex'))
  )
  const object = store.objects.get(name ?? '')
  assert.ok(name !== undefined && object !== undefined)
  const whole = object.content
  const damage: (Uint8Array | undefined)[] = [
    undefined,
    new Uint8Array(0),
    whole.subarray(0, 100),
    whole.subarray(1)
  ]
  for (let at = 32; at < whole.length; at += 13)
    damage.push(whole.map((byte, index) => (index === at ? byte ^ 4 : byte)))
  for (const content of damage) {
    store.objects.delete(name)
    if (content !== undefined) store.objects.set(name, { ...object, content })
    const attempt = backUp(store, new MemorySource(small), { parent, tracking: 'changed' })
    await assert.rejects(
      attempt,
      (error) => error instanceof HostletError && error.code === 'E_CORRUPT' && error.details.object === name
    )
  }
  store.objects.set(name, object)
  assert.equal(
    (await backUp(store, new MemorySource(small), { parent, tracking: 'changed' })).readBytes,
    blockBytes
  )
})

test('reads the parent from the newest generation of a compacted pack', async () => {
  const small = new MemoryDisk(3 * blockBytes)
  small.write(0, Buffer.alloc(3 * blockBytes, 9))
  const store = new MemoryStore()
  const parent = (await backUp(store, new MemorySource(small))).disks[0]?.root ?? null
  assert.ok(parent !== null)
  const { assemblePack } = await import('../../../src/backup/format/pack-builder.ts')
  const { openPackEnd } = await import('../../../src/backup/format/pack.ts')
  const { deriveVaultKeys } = await import('../../../src/backup/format/keys.ts')
  const keys = deriveVaultKeys(vmKey)
  const name = `vms/${vm}/packs/${Buffer.from(parent.pack).toString('hex')}`
  const content = store.objects.get(`${name}.1`)?.content ?? Buffer.alloc(0)
  const end = { lastBytes: content, packBytes: content.length }
  const entries = openPackEnd(keys, { id: parent.pack, generation: 1 }, end, name)
  const kept = entries.map((entry) => ({
    ...entry,
    sealed: content.subarray(entry.offset, entry.offset + entry.length)
  }))
  await store.put(`${name}.3`, assemblePack(keys, { id: parent.pack, generation: 3 }, kept), {
    signal: new AbortController().signal
  })
  store.objects.delete(`${name}.1`)
  small.clean()
  small.write(0, Buffer.alloc(100, 1))
  const { readBytes } = await backUp(store, new MemorySource(small), { parent, tracking: 'changed' })
  assert.equal(readBytes, blockBytes)
})

test('refuses what no backup can be made with', async () => {
  await assert.rejects(backUp(new MemoryStore(), sourceOf(), { compressionLevel: 0 }), {
    code: 'E_BAD_REQUEST'
  })
  await assert.rejects(backUp(new MemoryStore(), sourceOf(), { bytesPerSecond: 0 }), {
    code: 'E_BAD_REQUEST'
  })
  await assert.rejects(backUp(new MemoryStore(), sourceOf(), { vmKey: Buffer.alloc(5) }), {
    code: 'E_BAD_REQUEST'
  })
  await assert.rejects(backUp(new MemoryStore(), sourceOf(), { workers: 0 }), { code: 'E_BAD_REQUEST' })
})
