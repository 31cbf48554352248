// Verifying, and restoring what is damaged: each kind of damage is told apart, placed, and never written.

import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { before, describe, it } from 'node:test'
import fc from 'fast-check'
import { blockBytes } from '../../../src/backup/disk.ts'
import { deriveVaultKeys } from '../../../src/backup/format/keys.ts'
import { encodeNode, TreeNode } from '../../../src/backup/format/node.ts'
import { openPackEnd, parsePackName } from '../../../src/backup/format/pack.ts'
import { restoreDisk } from '../../../src/backup/read/restore.ts'
import { verifySnapshot } from '../../../src/backup/read/verify.ts'
import type { Vault } from '../../../src/backup/vault/vault.ts'
import { systemClock } from '../../../src/lib/clock.ts'
import { bodyOf, contentOf, diskOf, PlainWriter } from '../plain-writer.ts'
import { type Bench, createBench, newKey, signerOf, type Taken } from '../vault-bench.ts'
import { compact, copyOf, damage, MemoryTarget, packsOf, restore, verify } from './read-bench.ts'

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
