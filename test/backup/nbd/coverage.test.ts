/** Which bytes of a read are answered, against a plain list of bytes. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { Coverage } from '../../../src/backup/nbd/coverage.ts'

const seed = Number(process.env.FUZZ_SEED ?? Date.now() & 0x7fff_ffff)
const length = 40

describe(`coverage of a read (FUZZ_SEED=${seed})`, () => {
  it('takes each byte once and none outside, and knows when all are there', () => {
    const range = fc.tuple(fc.integer({ min: -2, max: length }), fc.integer({ min: -1, max: length }))
    fc.assert(
      fc.property(fc.array(range, { maxLength: 60 }), (ranges) => {
        const coverage = new Coverage(length)
        const seen: boolean[] = Array(length).fill(false)
        for (const [start, bytes] of ranges) {
          const inside = start >= 0 && bytes > 0 && start + bytes <= length
          const fresh = inside && !seen.slice(start, start + bytes).includes(true)
          assert.equal(coverage.add(start, bytes), fresh)
          if (fresh) seen.fill(true, start, start + bytes)
          assert.equal(coverage.complete, !seen.includes(false))
        }
      }),
      { seed, numRuns: 2_000 }
    )
  })
})
