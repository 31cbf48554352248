// Restoring and verifying: the bytes come back, and each kind of damage is told apart, placed, and never written.

import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { before, describe, it } from 'node:test'
import fc from 'fast-check'
import { blockBytes, type DiskTarget } from '../../../src/backup/disk.ts'
import { deriveVaultKeys } from '../../../src/backup/format/keys.ts'
import { encodeNode, TreeNode } from '../../../src/backup/format/node.ts'
import { openPackEnd, parsePackName } from '../../../src/backup/format/pack.ts'
import { restoreDisk } from '../../../src/backup/read/restore.ts'
import { type VerifyReport, verifySnapshot } from '../../../src/backup/read/verify.ts'
import type { Vault } from '../../../src/backup/vault/vault.ts'
import { systemClock } from '../../../src/lib/clock.ts'
import { FakeClock } from '../../support/fake-clock.ts'
import { bodyOf, contentOf, diskOf, type PlainDisk, PlainWriter } from '../plain-writer.ts'
import { type Bench, createBench, newKey, signerOf, type Taken } from '../vault-bench.ts'

class MemoryTarget implements DiskTarget {
  readonly sizeBytes: number
  readonly writesInFlightMax = 3
  readonly content: Buffer
  readonly written: { offset: number; length: number }[] = []
  state: 'open' | 'finished' | 'aborted' = 'open'
  inFlight = 0
  inFlightSeen = 0

  constructor(sizeBytes: number) {
    this.sizeBytes = sizeBytes
    this.content = Buffer.alloc(sizeBytes)
  }

  async write(offset: number, data: Uint8Array): Promise<void> {
    this.inFlightSeen = Math.max(this.inFlightSeen, ++this.inFlight)
    await new Promise((resolve) => setImmediate(resolve))
    assert.ok(offset + data.length <= this.sizeBytes)
    this.content.set(data, offset)
    this.written.push({ offset, length: data.length })
    this.inFlight--
  }

  async finish(): Promise<void> {
    this.state = 'finished'
  }

  async abort(): Promise<void> {
    if (this.state === 'open') this.state = 'aborted'
  }
}

async function restore(bench: Bench, vault: Vault, id: string): Promise<MemoryTarget> {
  const { body, vmKey } = await vault.snapshot(id, bench)
  const [disk] = body.disks
  assert.ok(disk)
  const target = new MemoryTarget(disk.sizeBytes)
  await restoreDisk({
    store: vault.store,
    vm: vault.vm,
    vmKey,
    disk,
    target,
    workers: 1,
    clock: systemClock,
    signal: bench.signal
  })
  return target
}

async function verify(bench: Bench, vault: Vault, id: string, depth?: 'structure'): Promise<VerifyReport> {
  const snapshot = (await vault.snapshots(bench)).find((one) => one.id === id)
  assert.ok(snapshot)
  return verifySnapshot({
    store: vault.store,
    vm: vault.vm,
    snapshot,
    workers: 1,
    ...(depth && { depth }),
    signal: bench.signal
  })
}

function packsOf({ store, vm }: Bench): string[] {
  return [...store.objects.keys()].filter((name) => parsePackName(vm, name) !== undefined)
}

/** Changes the stored bytes of one object. */
function damage({ store }: Bench, name: string, change: (content: Buffer) => Uint8Array): void {
  const object = store.objects.get(name)
  assert.ok(object)
  object.content = change(Buffer.from(object.content))
}

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

describe('a snapshot that is damaged', () => {
  let bench: Bench
  let vault: Vault
  let taken: Taken
  const fills = Array.from({ length: 12 }, (_, index) => index + 1)

  before(async () => {
    bench = await createBench()
    vault = await bench.open()
    taken = await bench.backUp(vault, diskOf(fills), { entriesMax: 4 })
  })

  /** Damages a copy of the repository, and says what verify and restore make of it. */
  async function look(change: (copy: Bench) => void, depth?: 'structure') {
    const copy = await copyOf(bench)
    change(copy)
    const before = new Map([...copy.store.objects].map(([name, { content }]) => [name, Buffer.from(content)]))
    const again = await copy.open()
    const report = await verify(copy, again, taken.id, depth)
    const kinds = [...new Set(report.faults.map(({ kind }) => kind))]
    let restored: unknown
    const target = await restore(copy, again, taken.id).catch((error: unknown) => {
      restored = error
      return undefined
    })
    for (const [name, content] of before)
      assert.ok(content.equals(copy.store.objects.get(name)?.content ?? Buffer.alloc(0)))
    return { report, kinds, restored: restored as { code?: string; message?: string } | undefined, target }
  }

  /** The packs with blocks 0 to 3, 4 to 7 and 8 to 11, in this order, and the one with the tree. */
  function packOfBlock(block: number): string {
    const reference = taken.disk.references.get(block)
    assert.ok(reference)
    return `vms/${bench.vm}/packs/${Buffer.from(reference.pack).toString('hex')}.1`
  }

  it('is good as long as nothing is', async () => {
    const { report, target } = await look(() => undefined)
    assert.deepEqual([report.outcome, report.goodBlocks, report.lostBlocks], ['good', 12, 0])
    assert.ok(target?.content.equals(contentOf(taken.disk.content)))
  })

  it('names a pack that is missing, and all that it costs', async () => {
    const { report, kinds, restored } = await look((copy) => copy.store.objects.delete(packOfBlock(4)))
    assert.deepEqual(kinds, ['missing-object'])
    assert.deepEqual(
      report.faults.map(({ object, entry, disk, offset, lengthBytes }) => ({
        object,
        entry,
        disk,
        offset,
        lengthBytes
      })),
      [4, 5, 6, 7].map((block, entry) => ({
        object: packOfBlock(4),
        entry,
        disk: 'root',
        offset: block * blockBytes,
        lengthBytes: blockBytes
      }))
    )
    assert.deepEqual([report.goodBlocks, report.lostBlocks], [8, 4])
    assert.equal(restored?.code, 'E_CORRUPT')
    assert.match(restored?.message ?? '', new RegExp(`${packOfBlock(4)} is missing`))
  })

  it('names a pack that was cut off', async () => {
    const { kinds, report } = await look((copy) =>
      damage(copy, packOfBlock(4), (content) => content.subarray(0, -700))
    )
    assert.deepEqual(kinds, ['truncated-object'])
    assert.equal(report.lostBlocks, 4)
    const { kinds: emptied } = await look((copy) => damage(copy, packOfBlock(4), () => Buffer.alloc(0)))
    assert.deepEqual(emptied, ['truncated-object'])
  })

  it('names the one entry in which a bit is wrong', async () => {
    const { report, kinds, restored } = await look((copy) =>
      damage(copy, packOfBlock(4), (content) => {
        content.writeUInt8(content.readUInt8(40) ^ 1, 40)
        return content
      })
    )
    assert.deepEqual(kinds, ['damaged-entry'])
    assert.deepEqual(
      report.faults.map(({ entry, offset }) => [entry, offset]),
      [[0, 4 * blockBytes]]
    )
    assert.equal(report.goodBlocks, 11)
    assert.equal(restored?.code, 'E_CORRUPT')
  })

  it('finds any single bit that is wrong in any pack, or loses nothing by it', async () => {
    const names = packsOf(bench)
    await fc.assert(
      fc.asyncProperty(
        fc.constantFrom(...names),
        fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true }),
        fc.nat(7),
        async (name, place, bit) => {
          const { report, restored, target } = await look((copy) =>
            damage(copy, name, (content) => {
              const at = Math.floor(place * content.length)
              content.writeUInt8(content.readUInt8(at) ^ (1 << bit), at)
              return content
            })
          )
          if (report.outcome === 'bad') assert.ok(report.faults.every(({ object }) => object === name))
          // A pack's header is all that may be wrong without a loss.
          if (report.lostBlocks > 0) assert.equal(restored?.code, 'E_CORRUPT')
          else assert.ok(target?.content.equals(contentOf(taken.disk.content)))
        }
      ),
      { numRuns: 40 }
    )
  })

  it('finds a bit that is wrong in a table, without reading data', async () => {
    const { kinds } = await look(
      (copy) =>
        damage(copy, packOfBlock(0), (content) => {
          const at = content.length - 40
          content.writeUInt8(content.readUInt8(at) ^ 1, at)
          return content
        }),
      'structure'
    )
    assert.deepEqual(kinds, ['damaged-object'])
  })

  it('looks at the structure alone without reading any block', async () => {
    const copy = await copyOf(bench)
    const report = await verify(copy, await copy.open(), taken.id, 'structure')
    assert.deepEqual([report.outcome, report.depth, report.goodBlocks], ['good', 'structure', 12])
    // The manifest, and the root of the tree.
    assert.equal(copy.store.calls.filter((call) => call.startsWith('get ')).length, 2)
  })

  it('finds blocks that were put in the place of others, although they are authentic', async () => {
    const { blocks } = diskOf([20, 21])
    const writer = new PlainWriter(vault)
    const disk = await writer.write({ sizeBytes: 2 * blockBytes, blocks })
    const [first, second] = [disk.references.get(0), disk.references.get(1)]
    assert.ok(first && second)
    const node = new TreeNode(0)
    node.set(0, { ...first, entry: second.entry })
    node.set(1, second)
    const liar = new PlainWriter(vault)
    const root = liar.storeNode(encodeNode(node))
    await liar.end()
    const body = bodyOf({ vm: bench.vm, sequence: 9, disks: [{ ...disk, root }] })
    const id = crypto.randomUUID()
    await vault.commit({
      snapshot: id,
      body,
      signer: bench.signer,
      recipients: [bench.key],
      signal: bench.signal
    })
    const report = await verify(bench, vault, id)
    assert.deepEqual(
      report.faults.map(({ kind, offset }) => [kind, offset]),
      [['wrong-address', 0]]
    )
    await assert.rejects(restore(bench, vault, id), { code: 'E_CORRUPT' })
    await vault.remove(id, bench)
  })

  it('says how much is lost with a node of the tree', async () => {
    const root = taken.disk.root
    assert.ok(root)
    const name = `vms/${bench.vm}/packs/${Buffer.from(root.pack).toString('hex')}.1`
    const { report } = await look((copy) => {
      const { content = Buffer.alloc(0) } = copy.store.objects.get(name) ?? {}
      const identity = parsePackName(copy.vm, name)
      assert.ok(identity)
      const entries = openPackEnd(
        deriveVaultKeys(vault.vmKey),
        identity,
        { lastBytes: content, packBytes: content.length },
        name
      )
      const at = entries.find(({ number }) => number === root.entry)?.offset ?? 0
      damage(copy, name, (bytes) => {
        bytes.writeUInt8(bytes.readUInt8(at) ^ 1, at)
        return bytes
      })
    })
    assert.deepEqual(
      report.faults.map(({ kind, entry, offset, lengthBytes }) => ({ kind, entry, offset, lengthBytes })),
      [{ kind: 'damaged-entry', entry: root.entry, offset: 0, lengthBytes: 12 * blockBytes }]
    )
  })

  it('tells a forged manifest, a damaged one and one for another key apart', async () => {
    const name = `vms/${bench.vm}/snapshots/${taken.id}.json`
    const change = (edit: (envelope: Record<string, unknown>) => void) => (copy: Bench) =>
      damage(copy, name, (content) => {
        const envelope = JSON.parse(content.toString()) as Record<string, unknown>
        edit(envelope)
        return Buffer.from(JSON.stringify(envelope))
      })
    const forged = await look(
      change((envelope) => {
        envelope.sealed = Buffer.concat([
          Buffer.from(String(envelope.sealed), 'base64url'),
          Buffer.alloc(1)
        ]).toString('base64url')
      })
    )
    assert.deepEqual(forged.kinds, ['forged-manifest'])
    const cut = await look((copy) => damage(copy, name, (content) => content.subarray(0, 300)))
    assert.deepEqual(cut.kinds, ['bad-manifest'])
    const copy = await copyOf(bench)
    await assert.rejects(copy.open({ keys: [await newKey()] }), { code: 'E_AUTH' })
    const stranger = await copyOf(bench)
    const own = await stranger.open()
    const other = await signerOf((await createBench()).authority)
    const { id } = await bench.backUp(own, diskOf([1]), { signer: other })
    const report = await verify(stranger, own, id)
    assert.deepEqual(
      report.faults.map(({ kind }) => kind),
      ['forged-manifest']
    )
  })

  it('reads on where a pack was compacted meanwhile', async () => {
    const copy = await copyOf(bench)
    const again = await copy.open()
    const { body, vmKey } = await again.snapshot(taken.id, copy)
    const [disk] = body.disks
    assert.ok(disk)
    let moves = 0
    const moving = new Proxy(copy.store, {
      get(store, property) {
        if (property !== 'get') return Reflect.get(store, property).bind(store)
        return async (name: string, wait: Parameters<typeof store.get>[1]) => {
          // Between the look into its table and the reading of its blocks.
          if (name.endsWith('.1') && name === packOfBlock(4) && moves++ === 0)
            await compact(copy, name, vmKey)
          return store.get(name, wait)
        }
      }
    })
    const target = new MemoryTarget(disk.sizeBytes)
    await restoreDisk({
      store: moving,
      vm: copy.vm,
      vmKey,
      disk,
      target,
      clock: systemClock,
      signal: copy.signal
    })
    assert.ok(target.content.equals(contentOf(taken.disk.content)))
    assert.equal(moves, 1)
  })

  it('names what is lost where a pack was compacted meanwhile, and what it became cannot be read', async () => {
    const copy = await copyOf(bench)
    const snapshot = await (await copy.open()).snapshot(taken.id, copy)
    const name = packOfBlock(4)
    let moves = 0
    const get = copy.store.get.bind(copy.store)
    copy.store.get = async (object, wait) => {
      if (object === name && moves++ === 0) await compact(copy, name, snapshot.vmKey)
      const bytes = await get(object, wait)
      return object === name.replace(/1$/, '2') ? bytes.subarray(0, 10) : bytes
    }
    const report = await verifySnapshot({ ...copy, snapshot, workers: 1 })
    assert.equal(moves, 1)
    assert.deepEqual(
      report.faults.map(({ kind, offset }) => [kind, offset]),
      [4, 5, 6, 7].map((block) => ['truncated-object', block * blockBytes])
    )
    assert.deepEqual([report.goodBlocks, report.lostBlocks], [8, 4])
  })

  it('counts more faults than it names', async () => {
    const many = await createBench()
    const own = await many.open()
    const blocks = new Map(
      Array.from({ length: 1_100 }, (_, number) => [number, Buffer.alloc(blockBytes, 1 + (number % 250))])
    )
    const { id, disk } = await many.backUp(own, { sizeBytes: 1_100 * blockBytes, blocks })
    const first = disk.references.get(0)
    const packs = new Set([...disk.references.values()].map(({ pack }) => Buffer.from(pack).toString('hex')))
    const kept = Buffer.from(disk.root?.pack ?? randomBytes(16)).toString('hex')
    assert.ok(first)
    for (const pack of packs) if (pack !== kept) many.store.objects.delete(`vms/${many.vm}/packs/${pack}.1`)
    const report = await verify(many, own, id, 'structure')
    assert.equal(report.outcome, 'bad')
    assert.ok(report.faultCount > 1_000 && report.faults.length === 1_000)
  })
})

async function copyOf(bench: Bench): Promise<Bench> {
  const { MemoryStore } = await import('../../support/memory-store.ts')
  const objects = new Map(
    [...bench.store.objects].map(([name, object]) => [
      name,
      { ...object, content: Uint8Array.from(object.content) }
    ])
  )
  const store = new MemoryStore({}, objects)
  return { ...bench, store, open: (options = {}) => bench.open({ store, ...options }) }
}

/** What prune does to a pack with dead entries, here with all of them alive. */
async function compact(bench: Bench, name: string, vmKey: Uint8Array): Promise<void> {
  const { assemblePack } = await import('../../../src/backup/format/pack-builder.ts')
  const keys = deriveVaultKeys(vmKey)
  const identity = parsePackName(bench.vm, name)
  const content = bench.store.objects.get(name)?.content
  assert.ok(identity && content)
  const entries = openPackEnd(keys, identity, { lastBytes: content, packBytes: content.length }, name)
  const kept = entries.map(({ number, flags, offset, length }) => ({
    number,
    flags,
    sealed: content.subarray(offset, offset + length)
  }))
  const next = { ...identity, generation: 2 }
  await bench.store.put(name.replace(/1$/, '2'), assemblePack(keys, next, kept), bench)
  await bench.store.remove(name, bench)
}
