// Tree nodes: one encoding each, and nothing else is read as a node.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import {
  blocksOf,
  decodeNode,
  encodeNode,
  nodeBytesMax,
  parseReference,
  referenceText,
  sameReference,
  TreeNode,
  treeLevels
} from '../../../src/backup/format/node.ts'
import { HostletError } from '../../../src/errors.ts'
import { nodeOf, sampleReference } from './sample-pack.ts'

const place = { object: 'vms/v/packs/p.1', entry: 9 }
const anySlots = fc.uniqueArray(fc.nat(1023), { minLength: 1, maxLength: 1024 })

function contents(node: TreeNode) {
  return [...node.references()].map(([slot, reference]) => [slot, referenceText(reference)])
}

test('reads back any node as it was', () => {
  fc.assert(
    fc.property(anySlots, fc.nat(3), fc.integer({ min: 1, max: 1024 }), (slots, level, packs) => {
      const node = nodeOf(level, slots, packs)
      const read = decodeNode(encodeNode(node), level, place)
      assert.deepEqual(contents(read), contents(node))
      assert.equal(read.count, slots.length)
    })
  )
})

test('equal nodes have equal encodings, in whatever order they were filled', () => {
  fc.assert(
    fc.property(anySlots, fc.nat(1023), (slots, extra) => {
      const node = nodeOf(0, [...slots].reverse())
      if (!slots.includes(extra)) node.set(extra, sampleReference(1))
      if (!slots.includes(extra)) node.set(extra, null)
      assert.deepEqual(encodeNode(node), encodeNode(nodeOf(0, slots)))
    })
  )
})

test('a full node with a pack for each reference is the longest there is', () => {
  const all = Array.from({ length: 1024 }, (_, slot) => slot)
  const node = new TreeNode(0)
  for (const slot of all) node.set(slot, { ...sampleReference(slot), pack: Buffer.alloc(16, `${slot} `) })
  assert.equal(encodeNode(node).length, nodeBytesMax)
  assert.ok(nodeBytesMax <= 65_536)
})

/** E_CORRUPT that names its place, or the very node that these bytes are the encoding of. */
function refusedOrExact(bytes: Uint8Array, level: number): 'refused' | 'exact' {
  try {
    assert.deepEqual(encodeNode(decodeNode(bytes, level, place)), Buffer.from(bytes))
    return 'exact'
  } catch (error) {
    assert.ok(error instanceof HostletError && error.code === 'E_CORRUPT', String(error))
    assert.deepEqual(error.details, place)
    return 'refused'
  }
}

test('refuses a node cut off at any byte, or with bytes behind it', () => {
  const bytes = encodeNode(nodeOf(1, [0, 1, 5, 1023]))
  for (let length = 0; length < bytes.length; length++)
    assert.equal(refusedOrExact(bytes.subarray(0, length), 1), 'refused', `at ${length}`)
  assert.equal(refusedOrExact(Buffer.concat([bytes, Buffer.alloc(1)]), 1), 'refused')
})

test('never makes of a flipped bit anything but what the bytes say', () => {
  const bytes = encodeNode(nodeOf(0, [0, 1, 5, 900, 1023]))
  const firstAddress = bytes.length - 5 * 32
  for (let at = 0; at < bytes.length; at++)
    for (let bit = 0; bit < 8; bit++) {
      const flipped = Buffer.from(bytes)
      flipped[at] = (flipped[at] ?? 0) ^ (1 << bit)
      const outcome = refusedOrExact(flipped, 0)
      if (at < 8) assert.equal(outcome, 'refused', `byte ${at}`)
      if (at >= firstAddress) assert.equal(outcome, 'exact', 'an address may be any')
    }
})

test('never makes garbage of random bytes', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 2000 }), (bytes) => refusedOrExact(bytes, 0) === 'refused')
  )
})

test('refuses a node of another level, and one that is empty', () => {
  const bytes = encodeNode(nodeOf(1, [3]))
  assert.throws(() => decodeNode(bytes, 0, place), { code: 'E_CORRUPT' })
  assert.throws(() => encodeNode(new TreeNode(0)), { code: 'E_INTERNAL' })
  assert.throws(() => new TreeNode(0).set(1024, null), { code: 'E_INTERNAL' })
})

test('writes references as text and reads no other text', () => {
  const reference = sampleReference(12)
  const text = referenceText(reference)
  assert.ok(sameReference(parseReference(text, place), reference))
  for (const wrong of [
    '',
    text.slice(1),
    `${text}0`,
    text.replace('.444.', '.4294967296.'),
    text.replace('.444.', '.0444.'),
    text.toUpperCase()
  ])
    assert.throws(() => parseReference(wrong, place), { code: 'E_CORRUPT' }, wrong)
})

test('tells references apart by each of their parts', () => {
  const one = sampleReference(1)
  assert.ok(sameReference(one, { ...one }) && sameReference(null, null))
  const others = [
    null,
    { ...one, entry: 2 },
    { ...one, pack: Buffer.alloc(16) },
    { ...one, address: Buffer.alloc(32) }
  ]
  for (const other of others) assert.equal(sameReference(one, other) || sameReference(other, one), false)
})

test('knows how many levels a disk needs', () => {
  const block = 65_536
  const levels = [
    0,
    1,
    block * 1024,
    block * 1024 + 1,
    block * 1024 ** 2,
    block * 1024 ** 2 + 1,
    Number.MAX_SAFE_INTEGER
  ]
  assert.deepEqual(levels.map(treeLevels), [1, 1, 1, 2, 2, 3, 4])
  assert.deepEqual([0, 1, block, block + 1].map(blocksOf), [0, 1, 1, 2])
  for (const size of [-1, 0.5, Number.NaN, 2 ** 53])
    assert.throws(() => treeLevels(size), { code: 'E_BAD_REQUEST' })
})
