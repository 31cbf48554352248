// Packs: what is built is read back, and what is damaged in any way is refused by name.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { blockBytes } from '../../../src/backup/disk.ts'
import { openEntry } from '../../../src/backup/format/entry.ts'
import { deriveVaultKeys } from '../../../src/backup/format/keys.ts'
import {
  checkPackHeader,
  findEntry,
  openPackEnd,
  type PackEntry,
  type PackIdentity,
  packEndBytes,
  packEndBytesMax,
  packHeaderBytes,
  packName,
  packTrailerBytes,
  parsePackName,
  parseTable
} from '../../../src/backup/format/pack.ts'
import { assemblePack, PackBuilder, packBufferBytesMin } from '../../../src/backup/format/pack-builder.ts'
import { HostletError } from '../../../src/errors.ts'
import { sampleBlocks, sampleKeys, sampleNode, samplePack } from './sample-pack.ts'

const object = 'vms/v/packs/p.1'

/** Reads a whole pack as a reader would: table from its end, header, every entry. */
function readPack(identity: PackIdentity, content: Uint8Array, keys = sampleKeys): Map<number, Buffer> {
  const end = { lastBytes: content.subarray(-packEndBytesMax), packBytes: content.length }
  const entries = openPackEnd(keys, identity, end, object)
  checkPackHeader(content, identity, { object })
  const key = keys.packKey(identity.id)
  return new Map(
    entries.map((entry) => {
      const sealed = content.subarray(entry.offset, entry.offset + entry.length)
      return [entry.number, openEntry({ ...entry, key, sealed }, entry.flags & 2 ? 'node' : 'block', object)]
    })
  )
}

function isCorrupt(error: unknown): boolean {
  assert.ok(error instanceof HostletError && error.code === 'E_CORRUPT', String(error))
  assert.ok(error.message.includes(object), `${error.message} names the object`)
  return true
}

test('gives back what was put in', () => {
  const pack = samplePack()
  const read = readPack(pack, pack.content)
  assert.deepEqual([...read.keys()], [0, 1, 2, 3])
  assert.deepEqual([...read.values()], [...sampleBlocks, sampleNode])
  assert.ok(pack.content.length < 1.1 * blockBytes, 'two of three blocks shrink')
})

test('a pack that holds nothing twice has a key of its own', () => {
  const [one, other] = [samplePack(), samplePack()]
  assert.notDeepEqual(one.id, other.id)
  assert.notDeepEqual(sampleKeys.packKey(one.id), sampleKeys.packKey(other.id))
})

test('says where its table begins from any number of last bytes', () => {
  const { content } = samplePack()
  const last = packEndBytes(content.subarray(-packTrailerBytes), content.length, { object })
  assert.equal(packEndBytes(content, content.length, { object }), last)
  assert.ok(last < packEndBytesMax)
})

test('refuses a pack cut off anywhere', () => {
  const pack = samplePack()
  const lengths = Array.from({ length: 600 }, (_, index) => pack.content.length - 1 - index)
  for (const length of [...lengths, ...Array.from({ length: 200 }, (_, index) => index)])
    assert.throws(() => readPack(pack, pack.content.subarray(0, length)), isCorrupt, `at ${length}`)
})

test('refuses every flipped bit of header, table and trailer', () => {
  const pack = samplePack()
  const endAt = pack.content.length - packEndBytes(pack.content, pack.content.length, { object })
  const places = Array.from(pack.content.keys()).filter((at) => at < packHeaderBytes || at >= endAt)
  for (const at of places)
    for (let bit = 0; bit < 8; bit++) {
      const content = Uint8Array.from(pack.content)
      content[at] = (content[at] ?? 0) ^ (1 << bit)
      assert.throws(() => readPack(pack, content), isCorrupt, `bit ${bit} of byte ${at}`)
    }
})

test('refuses flipped bits of entries, and names the entry', () => {
  const pack = samplePack()
  const entries = openPackEnd(
    sampleKeys,
    pack,
    { lastBytes: pack.content, packBytes: pack.content.length },
    object
  )
  const last = entries.at(-1)
  const anyByte = fc.integer({ min: packHeaderBytes, max: (last?.offset ?? 0) + (last?.length ?? 0) - 1 })
  fc.assert(
    fc.property(anyByte, fc.integer({ min: 0, max: 7 }), (at, bit) => {
      const content = Uint8Array.from(pack.content)
      content[at] = (content[at] ?? 0) ^ (1 << bit)
      const hit = entries.find(({ offset, length }) => at >= offset && at < offset + length)
      assert.throws(
        () => readPack(pack, content),
        (error) => isCorrupt(error) && error instanceof HostletError && error.details.entry === hit?.number
      )
    })
  )
})

test('refuses a pack under another name, generation or VM key', () => {
  const pack = samplePack()
  const otherId = { id: samplePack().id, generation: pack.generation }
  assert.throws(() => readPack(otherId, pack.content), isCorrupt)
  assert.throws(() => readPack({ id: pack.id, generation: 2 }, pack.content), isCorrupt)
  assert.throws(() => readPack(pack, pack.content, deriveVaultKeys(Buffer.alloc(32, 8))), isCorrupt)
})

test('refuses an entry as the other kind, under another number or with other flags', () => {
  const pack = samplePack()
  const key = sampleKeys.packKey(pack.id)
  const [first] = openPackEnd(
    sampleKeys,
    pack,
    { lastBytes: pack.content, packBytes: pack.content.length },
    object
  )
  assert.ok(first !== undefined)
  const sealed = pack.content.subarray(first.offset, first.offset + first.length)
  assert.equal(openEntry({ ...first, key, sealed }, 'block', object).length, blockBytes)
  assert.throws(() => openEntry({ ...first, key, sealed }, 'node', object), isCorrupt)
  assert.throws(() => openEntry({ ...first, key, sealed, number: 1 }, 'block', object), isCorrupt)
  for (const flags of [0, 2, 3, 4, 255])
    assert.throws(
      () => openEntry({ ...first, key, sealed, flags }, flags & 2 ? 'node' : 'block', object),
      isCorrupt
    )
  for (let length = 0; length < sealed.length; length++)
    assert.throws(
      () => openEntry({ ...first, key, sealed: sealed.subarray(0, length) }, 'block', object),
      isCorrupt
    )
})

test('refuses tables that authenticate but say nonsense', () => {
  const table = (rows: readonly (readonly number[])[], count = rows.length) => {
    const bytes = Buffer.alloc(4 + rows.length * 13)
    bytes.writeUInt32BE(count)
    rows.forEach(([number = 0, offset = 0, length = 0, flags = 0], row) => {
      const at = 4 + row * 13
      bytes.writeUInt32BE(number, at)
      bytes.writeUInt32BE(offset, at + 4)
      bytes.writeUInt32BE(length, at + 8)
      bytes.writeUInt8(flags, at + 12)
    })
    return bytes
  }
  const good = [
    [0, 32, 100, 1],
    [5, 132, 16, 2]
  ]
  assert.deepEqual(
    parseTable(table(good), 148, object).map(({ number }) => number),
    [0, 5]
  )
  const bad: [string, Buffer, number][] = [
    [
      'numbers that fall',
      table([
        [5, 32, 100],
        [0, 132, 16]
      ]),
      148
    ],
    [
      'a number twice',
      table([
        [5, 32, 100],
        [5, 132, 16]
      ]),
      148
    ],

    [
      'a gap',
      table([
        [0, 32, 100],
        [1, 133, 16]
      ]),
      149
    ],
    [
      'an overlap',
      table([
        [0, 32, 100],
        [1, 131, 16]
      ]),
      147
    ],
    ['an entry in the header', table([[0, 31, 100]]), 131],
    ['an entry that is too short', table([[0, 32, 15]]), 47],
    ['an entry that is too long', table([[0, 32, 65_553]]), 65_585],
    ['unknown flags', table([[0, 32, 100, 4]]), 132],
    ['bytes before the table that are no entry', table(good), 149],
    ['entries that reach into the table', table(good), 147],
    ['more rows than it counts', table(good, 1), 132],
    ['fewer rows than it counts', table(good, 3), 148],
    ['a count beyond all bounds', table(good, 0xffff_ffff), 148],
    ['nothing', Buffer.alloc(0), 32],
    ['half a count', Buffer.alloc(3), 32]
  ]
  for (const [what, bytes, end] of bad) assert.throws(() => parseTable(bytes, end, object), isCorrupt, what)
})

test('finds an entry by its number, also where numbers are missing', () => {
  fc.assert(
    fc.property(fc.uniqueArray(fc.nat(16_383)), (numbers) => {
      const entries = numbers
        .sort((a, b) => a - b)
        .map((number): PackEntry => ({ number, offset: 0, length: 0, flags: 0 }))
      for (let number = 0; number < 50; number++)
        assert.equal(findEntry(entries, number)?.number, numbers.includes(number) ? number : undefined)
      for (const number of numbers) assert.equal(findEntry(entries, number)?.number, number)
    })
  )
})

test('a compacted generation keeps numbers and ciphertext of what it keeps', () => {
  const pack = samplePack()
  const end = { lastBytes: pack.content, packBytes: pack.content.length }
  const kept = openPackEnd(sampleKeys, pack, end, object)
    .filter(({ number }) => number % 2 === 1)
    .map((entry) => ({ ...entry, sealed: pack.content.subarray(entry.offset, entry.offset + entry.length) }))
  const identity = { id: pack.id, generation: 2 }
  const content = Buffer.concat(assemblePack(sampleKeys, identity, kept))
  assert.deepEqual(
    [...readPack(identity, content)],
    [
      [1, sampleBlocks[1]],
      [3, sampleNode]
    ]
  )
})

test('says when it is full before it is, and refuses to be written to afterwards', () => {
  const builder = new PackBuilder(sampleKeys, new Uint8Array(packBufferBytesMin))
  assert.equal(builder.full, false)
  builder.append('block', sampleBlocks[1] ?? Buffer.alloc(0), 1)
  assert.equal(builder.full, true)
  assert.throws(() => builder.append('node', sampleNode, 1), { code: 'E_INTERNAL' })
  assert.throws(() => new PackBuilder(sampleKeys, new Uint8Array(packBufferBytesMin - 1)), {
    code: 'E_INTERNAL'
  })
})

test('closes at 16,384 entries, whose table still fits the longest end', () => {
  const builder = new PackBuilder(sampleKeys, new Uint8Array(8 * 1024 * 1024))
  while (!builder.full) builder.append('node', sampleNode, 1)
  const { content, id, generation } = builder.finish()
  assert.equal(builder.entries, 16_384)
  assert.equal(readPack({ id, generation }, content).size, 16_384)
  assert.equal(packEndBytes(content, content.length, { object }), packEndBytesMax)
})

test('reads its names back and no others', () => {
  const id = Buffer.alloc(16, 0xab)
  assert.equal(packName('v', { id, generation: 12 }), `vms/v/packs/${'ab'.repeat(16)}.12`)
  assert.deepEqual(parsePackName('v', packName('v', { id, generation: 12 })), { id, generation: 12 })
  const hex = 'ab'.repeat(16)
  const wrong = [
    `vms/w/packs/${hex}.1`,
    `vms/v/packs/${hex}.0`,
    `vms/v/packs/${hex}.01`,
    `vms/v/packs/${hex}`,
    `vms/v/packs/${hex}.5000000000`,
    `vms/v/packs/${hex.toUpperCase()}.1`,
    `vms/v/packs/x/${hex}.1`
  ]
  for (const name of wrong) assert.equal(parsePackName('v', name), undefined, name)
})
