// The page, the vectors and the code say the same: a reader written from the page alone reads what we write.

import assert from 'node:assert/strict'
import { createHash, randomBytes, randomUUID, type webcrypto } from 'node:crypto'
import { cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { after, describe, it } from 'node:test'
import fc from 'fast-check'
import type { JWK } from 'jose'
import { blockBytes, type DiskTarget } from '../../../src/backup/disk.ts'
import { deriveVaultKeys } from '../../../src/backup/format/keys.ts'
import { prune } from '../../../src/backup/prune/prune.ts'
import { restoreDisk } from '../../../src/backup/read/restore.ts'
import { verifySnapshot } from '../../../src/backup/read/verify.ts'
import { Vault } from '../../../src/backup/vault/vault.ts'
import { backUpDisks, type DiskBackup } from '../../../src/backup/write/back-up.ts'
import { systemClock } from '../../../src/lib/clock.ts'
import { MemoryStore } from '../../support/memory-store.ts'
import { trustDomain } from '../../support/test-authority.ts'
import { readSnapshot } from '../independent-reader.ts'
import { bodyOf, contentOf, diskOf } from '../plain-writer.ts'
import { createBench } from '../vault-bench.ts'
import { MemoryDisk, MemorySource } from '../write/memory-source.ts'

const vectors = join(import.meta.dirname, 'vectors')
const repository = join(vectors, 'repository')
const page = readFileSync(join(import.meta.dirname, '../../../docs/backup-format.md'), 'utf8')
const { signal } = new AbortController()
const temporary = mkdtempSync(join(tmpdir(), 'hostlet-vectors-'))
after(() => rmSync(temporary, { recursive: true, force: true }))

interface Keys {
  readonly vmKey: string
  readonly authority: string
  readonly host: webcrypto.JsonWebKey
  readonly recovery: webcrypto.JsonWebKey
}
interface Expected {
  readonly vm: string
  readonly derived: Record<string, string>
  readonly snapshots: readonly { snapshot: string; disks: Record<string, string> }[]
}
const read = (name: string): unknown => JSON.parse(readFileSync(join(vectors, name), 'utf8'))
const keys = read('keys.json') as Keys
const { vm, derived, snapshots } = read('expected.json') as Expected
const hashOf = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex')

function storeOf(directory: string): MemoryStore {
  const store = new MemoryStore()
  for (const name of readdirSync(directory, { recursive: true, encoding: 'utf8' })) {
    if (!/\.(json|\d+)$/.test(name)) continue
    store.objects.set(name, { content: Uint8Array.from(readFileSync(join(directory, name))), modifiedAt: 0 })
  }
  return store
}

function writeOut(store: MemoryStore, directory: string): void {
  rmSync(directory, { recursive: true, force: true })
  for (const [name, { content }] of store.objects) {
    mkdirSync(dirname(join(directory, name)), { recursive: true })
    writeFileSync(join(directory, name), content)
  }
}

describe('the vectors', () => {
  it('are read by the reader that was written from the page, with each key, and with and without the CA', () => {
    for (const { snapshot, disks } of snapshots)
      for (const key of [keys.host, keys.recovery])
        for (const authority of [undefined, keys.authority]) {
          const options = {
            directory: repository,
            vm,
            snapshot,
            key,
            ...(authority !== undefined && { authority })
          }
          const found = [...readSnapshot(options)].map(([role, content]) => [role, hashOf(content)])
          assert.deepEqual(Object.fromEntries(found), disks)
        }
  })

  it('are read by our own', async () => {
    const store = storeOf(repository)
    const trust = { authorities: [keys.authority], trustDomain }
    const vault = await Vault.open({ store, vm, unlocker: { keys: [keys.recovery as JWK] }, trust, signal })
    const all = await vault.snapshots({ signal })
    assert.deepEqual(
      all.map(({ id }) => id),
      snapshots.map(({ snapshot }) => snapshot)
    )
    for (const [index, snapshot] of all.entries()) {
      assert.equal(snapshot.state, 'good')
      assert.equal((await verifySnapshot({ store, vm, snapshot, workers: 1, signal })).outcome, 'good')
      if (snapshot.state !== 'good') continue
      for (const disk of snapshot.body.disks) {
        const content = Buffer.alloc(disk.sizeBytes)
        const target: DiskTarget = {
          sizeBytes: disk.sizeBytes,
          writesInFlightMax: 2,
          write: async (offset, data) => content.set(data, offset),
          finish: async () => undefined,
          abort: async () => undefined
        }
        await restoreDisk({
          store,
          vm,
          vmKey: snapshot.vmKey,
          disk,
          target,
          workers: 1,
          clock: systemClock,
          signal
        })
        assert.equal(hashOf(content), snapshots[index]?.disks[disk.role])
      }
    }
  })

  it('have the derived keys and addresses that the code derives, and that stand on the page', () => {
    const own = deriveVaultKeys(Buffer.from(keys.vmKey, 'hex'))
    const first = snapshots[0]?.snapshot ?? ''
    assert.deepEqual(derived, {
      keyId: own.id,
      addressOfBlockOfOnes: own.addressOf(Buffer.alloc(blockBytes, 1)).toString('hex'),
      nodeAddressOfAbc: own.nodeAddressOf(Buffer.from('abc')).toString('hex'),
      packKeyOfZeros: own.packKey(Buffer.alloc(16)).toString('hex'),
      tableKeyOfZeros: own.tableKey(Buffer.alloc(16)).toString('hex'),
      manifestKey: own.manifestKey(first).toString('hex')
    })
    for (const value of Object.values(derived))
      assert.ok(page.includes(value), `the page does not name ${value}`)
  })

  it('are refused by the reader of the page when any bit of a pack is wrong that it reads', () => {
    const directory = join(temporary, 'flipped')
    const [first] = snapshots
    assert.ok(first)
    const packs = readdirSync(join(repository, 'vms', vm, 'packs'))
    fc.assert(
      fc.property(
        fc.constantFrom(...packs),
        fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true }),
        (pack, place) => {
          rmSync(directory, { recursive: true, force: true })
          cpSync(repository, directory, { recursive: true })
          const path = join(directory, 'vms', vm, 'packs', pack)
          const bytes = readFileSync(path)
          const at = Math.floor(place * bytes.length)
          bytes.writeUInt8(bytes.readUInt8(at) ^ 1, at)
          writeFileSync(path, bytes)
          try {
            const found = readSnapshot({ directory, vm, snapshot: first.snapshot, key: keys.host })
            // A pack of the other snapshot, or the header, which stands in the name as well.
            assert.equal(hashOf(found.get('root') ?? Buffer.alloc(0)), first.disks.root)
          } catch (error) {
            assert.ok(error instanceof Error && !(error instanceof assert.AssertionError), String(error))
          }
        }
      ),
      { numRuns: 60 }
    )
  })
})

describe('what we write', () => {
  it('is read by the reader of the page: any disk, also after packs were written anew', async () => {
    const bench = await createBench()
    const fills = fc.array(fc.integer({ min: 0, max: 9 }), { minLength: 1, maxLength: 20 })
    let runs = 0
    await fc.assert(
      fc.asyncProperty(fills, fills, fc.nat(blockBytes - 1), async (before, plan, missing) => {
        const store = new MemoryStore()
        const vault = await bench.open({ store })
        const disk = diskOf(plan, plan.length * blockBytes - missing)
        const parent = await bench.backUp(vault, diskOf(before), { entriesMax: 8 })
        const { id } = await bench.backUp(vault, disk, { parent, entriesMax: 8 })
        const directory = join(temporary, `run-${++runs}`)
        const check = () => {
          writeOut(store, directory)
          const key = bench.key as webcrypto.JsonWebKey
          const found = readSnapshot({
            directory,
            vm: bench.vm,
            snapshot: id,
            key,
            authority: bench.authority.certificate
          })
          assert.ok(found.get('root')?.equals(contentOf(disk)))
        }
        // A disk of zeros alone has no pack, and no folder of packs.
        check()
        await prune({ vault, keep: { last: 1 }, liveShareMin: 1, signal })
        check()
      }),
      { numRuns: 15 }
    )
  })

  it('is read by the reader of the page as agents write it: full, incremental, grown, of two levels', async () => {
    const bench = await createBench()
    const vault = await bench.open()
    const disk = new MemoryDisk(1_030 * blockBytes + 512)
    disk.write(3 * blockBytes, randomBytes(40 * blockBytes))
    disk.write(1_020 * blockBytes, Buffer.alloc(8 * blockBytes, 'text that is compressed. '))
    const steps: (() => void)[] = [
      () => undefined,
      () => disk.write(5 * blockBytes + 10, Buffer.alloc(2 * blockBytes)),
      () => disk.resize(2_050 * blockBytes + 1_024),
      () => disk.write(2_050 * blockBytes, randomBytes(1_024))
    ]
    let last: DiskBackup | undefined
    for (const [index, change] of steps.entries()) {
      change()
      const { disks } = await backUpDisks({
        ...{ store: bench.store, vm: bench.vm, vmKey: vault.vmKey, signal, clock: systemClock },
        ...{ compressionLevel: 3, workers: 2, onProgress: () => undefined },
        disks: [
          {
            ...{ role: 'root', source: new MemorySource(disk), parent: last?.root ?? null },
            ...{ parentSizeBytes: last?.sizeBytes, tracking: last === undefined ? 'all' : 'changed' }
          }
        ]
      })
      disk.clean()
      last = disks[0]
      const snapshot = randomUUID()
      const stored = disks.map(({ readBytes: _, ...one }) => one)
      const body = bodyOf({ vm: bench.vm, sequence: index + 1, disks: stored })
      const { signer, key } = bench
      await vault.commit({ snapshot, body, signer, recipients: [key], signal })
      const directory = join(temporary, `agent-${index}`)
      writeOut(bench.store, directory)
      const found = readSnapshot({ directory, vm: bench.vm, snapshot, key: key as webcrypto.JsonWebKey })
      assert.ok(found.get('root')?.equals(disk.bytes), `after step ${index}`)
    }
  })

  it('is what the page says: every name of a derived key stands there', () => {
    for (const what of ['key id', 'address', 'node address', 'pack', 'table', 'manifest'])
      assert.ok(page.includes(`\`hostlet-backup/1 ${what}\``))
  })
})
