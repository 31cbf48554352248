// What is compressed and what is left as it is.

import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { test } from 'node:test'
import { zstdDecompressSync } from 'node:zlib'
import fc from 'fast-check'
import { compressed, looksRandom } from '../../../src/backup/format/compression.ts'

test('what it gives is shorter and decompresses to what was given', () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 65_536 }), fc.integer({ min: 1, max: 19 }), (length, level) => {
      const plain = Buffer.alloc(length, 'all work and no play ')
      const shorter = compressed(plain, level)
      if (shorter === undefined) return assert.ok(length < 64, 'only what is short does not shrink')
      assert.ok(shorter.length < plain.length)
      assert.deepEqual(zstdDecompressSync(shorter), plain)
    }),
    { numRuns: 30 }
  )
})

test('leaves random data as it is', () => {
  for (const length of [10, 1000, 65_536]) assert.equal(compressed(randomBytes(length), 1), undefined)
})

test('takes random data for random, and nothing that would shrink by much', () => {
  const blocks = Array.from({ length: 200 }, () => randomBytes(65_536))
  assert.ok(blocks.filter(looksRandom).length >= 198)
  const patterns = {
    zeros: Buffer.alloc(65_536),
    text: Buffer.alloc(65_536, 'The quick brown fox jumps over the lazy dog. '),
    counting: Buffer.from(Array.from({ length: 65_536 }, (_, index) => index & 255)),
    base64: Buffer.from(randomBytes(49_152).toString('base64')),
    'half zeros': Buffer.concat([randomBytes(32_768), Buffer.alloc(32_768)]),
    'one page of zeros': Buffer.concat([randomBytes(61_440), Buffer.alloc(4096)])
  }
  for (const [name, pattern] of Object.entries(patterns)) assert.equal(looksRandom(pattern), false, name)
})
