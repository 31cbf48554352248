// Makes the vectors of docs/backup-format.md anew: run it when the format gets a new number, and never otherwise.

import { createHash, createPrivateKey, sign } from 'node:crypto'
import { mkdirSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { blockBytes, type DiskSource } from '../../../src/backup/disk.ts'
import { deriveVaultKeys } from '../../../src/backup/format/keys.ts'
import { encodeEnvelope, manifestName, sealManifest } from '../../../src/backup/vault/envelope.ts'
import { encodeBody } from '../../../src/backup/vault/manifest-body.ts'
import { wrapKey } from '../../../src/backup/vault/recipients.ts'
import { backUpDisks, type DiskBackup } from '../../../src/backup/write/back-up.ts'
import { systemClock } from '../../../src/lib/clock.ts'
import { MemoryStore } from '../../support/memory-store.ts'
import { TestAuthority, trustDomain } from '../../support/test-authority.ts'
import { bodyOf } from '../plain-writer.ts'
import { newKey } from '../vault-bench.ts'

const directory = join(import.meta.dirname, 'vectors')
const vm = '6c1f0a52-58f0-4d8e-9d3c-2a4d4f1b7e90'
const ids = ['0b5a6c3e-7a58-4a0f-8f62-90c54f6f1a01', '0b5a6c3e-7a58-4a0f-8f62-90c54f6f1a02'] as const
const vmKey = Buffer.from(Array.from({ length: 32 }, (_, index) => index))
const { signal } = new AbortController()
const at = Date.parse('2030-01-02T03:04:05Z')

function sourceOf(content: Buffer): DiskSource {
  return {
    sizeBytes: content.length,
    readsInFlightMax: 2,
    async *extents() {
      yield { offset: 0, length: content.length, zero: false, dirty: true }
    },
    read: async (offset, target) => target.set(content.subarray(offset, offset + target.length)),
    close: async () => undefined
  }
}

/** A small disk: text, noise that does not compress, zeros between, an odd end; and a data disk of two levels, nearly empty. */
function disksOf(turn: number): { root: Buffer; data: Buffer } {
  const root = Buffer.alloc(6 * blockBytes + 1_536)
  root.write(`hostlet backup vectors, turn ${turn}\n`.repeat(300), 0)
  let noise = createHash('sha512').update('noise').digest()
  for (let offset = 2 * blockBytes; offset < 3 * blockBytes; offset += 64) {
    noise.copy(root, offset)
    noise = createHash('sha512').update(noise).digest()
  }
  root.fill(0x40 + turn, 5 * blockBytes)
  const data = Buffer.alloc(1_025 * blockBytes)
  data.write('first', 0)
  data.write('last', 1_024 * blockBytes)
  return { root, data }
}

const store = new MemoryStore()
const authority = await TestAuthority.create()
const life = { from: Date.parse('2029-01-01'), to: Date.parse('2031-01-01') }
const { cert, key } = await authority.issue({ uris: [`spiffe://${trustDomain}/host/host-1`], ...life })
const signer = {
  certificates: [cert],
  sign: async (bytes: Uint8Array) =>
    sign('sha256', bytes, { key: createPrivateKey(key), dsaEncoding: 'ieee-p1363' })
}
const keys = { host: await newKey(), recovery: await newKey() }
const expected: Record<string, unknown>[] = []
let parents: readonly DiskBackup[] = []
for (const [turn, snapshot] of ids.entries()) {
  const content = disksOf(turn)
  const { disks } = await backUpDisks({
    store,
    vm,
    vmKey,
    compressionLevel: 3,
    workers: 1,
    clock: systemClock,
    signal,
    onProgress: () => undefined,
    disks: (['root', 'data'] as const).map((role) => ({
      role,
      source: sourceOf(content[role]),
      parent: parents.find((one) => one.role === role)?.root ?? null,
      tracking: turn === 0 ? ('all' as const) : ('compare' as const)
    }))
  })
  parents = disks
  const previous = turn === 0 ? null : ids[0]
  const body = bodyOf({ vm, sequence: turn + 1, disks, previous, at: at + turn * 3_600_000 })
  const sealed = await sealManifest({ vm, snapshot }, encodeBody(body), deriveVaultKeys(vmKey), signer)
  const envelope = { ...sealed, keys: await wrapKey(vmKey, [keys.host, keys.recovery]) }
  await store.put(manifestName({ vm, snapshot }), [encodeEnvelope(envelope)], { signal })
  const hashes = Object.entries(content).map(([role, bytes]) => [
    role,
    createHash('sha256').update(bytes).digest('hex')
  ])
  expected.push({ snapshot, disks: Object.fromEntries(hashes) })
}
await store.put(
  'hostlet-repository.json',
  [Buffer.from('{"format":1,"id":"f2d7b0a4-54c5-4b58-bf1c-3f6d1a7c9e11"}\n')],
  { signal }
)
for (const [name, { content }] of store.objects) {
  mkdirSync(dirname(join(directory, 'repository', name)), { recursive: true })
  writeFileSync(join(directory, 'repository', name), content)
}
const derived = deriveVaultKeys(vmKey)
const fixed = {
  keyId: derived.id,
  addressOfBlockOfOnes: derived.addressOf(Buffer.alloc(blockBytes, 1)).toString('hex'),
  nodeAddressOfAbc: derived.nodeAddressOf(Buffer.from('abc')).toString('hex'),
  packKeyOfZeros: derived.packKey(Buffer.alloc(16)).toString('hex'),
  tableKeyOfZeros: derived.tableKey(Buffer.alloc(16)).toString('hex'),
  manifestKey: derived.manifestKey(ids[0]).toString('hex')
}
const write = (name: string, value: unknown) =>
  writeFileSync(join(directory, name), `${JSON.stringify(value, undefined, 2)}\n`)
write('keys.json', { vmKey: vmKey.toString('hex'), authority: authority.certificate, ...keys })
write('expected.json', { vm, derived: fixed, snapshots: expected })
