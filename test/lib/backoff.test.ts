// Full jitter: bounds double up to the cap, and a success starts again.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { Backoff } from '../../src/lib/backoff.ts'

describe('Backoff', () => {
  it('draws from a bound that doubles up to the cap', () => {
    const backoff = new Backoff({ baseMs: 100, capMs: 1_000, random: () => 0.5 })
    assert.deepEqual(
      Array.from({ length: 6 }, () => backoff.nextMs()),
      [50, 100, 200, 400, 500, 500]
    )
    backoff.reset()
    assert.equal(backoff.nextMs(), 50)
  })

  it('stays finite however often it failed', () => {
    const backoff = new Backoff({ baseMs: 1_000, capMs: 60_000, random: () => 0.999 })
    for (let attempt = 0; attempt < 5_000; attempt++) backoff.nextMs()
    assert.equal(backoff.nextMs(), 59_940)
  })
})
