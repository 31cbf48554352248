// The first notes of a minute pass, the rest is told as a number.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { FloodGate, type Held } from '../../src/lib/flood-gate.ts'
import { FakeClock } from '../support/fake-clock.ts'

function gateOf(clock: FakeClock, keysMax = 2) {
  const held: Held[] = []
  const gate = new FloodGate({
    ...{ clock, passMax: 2, windowMs: 60_000, keysMax },
    onOver: (over) => held.push(over)
  })
  return { gate, held }
}

describe('a flood gate', () => {
  it('lets so many of each key through in a window, and tells how many it held back', async () => {
    const clock = new FakeClock()
    const { gate, held } = gateOf(clock)
    const since = clock.now()
    assert.deepEqual(
      [gate.pass('a'), gate.pass('a'), gate.pass('a'), gate.pass('a')],
      [true, true, false, false]
    )
    assert.equal(gate.pass('b'), true)
    await clock.advance(59_999)
    assert.deepEqual(held, [])
    await clock.advance(1)
    assert.deepEqual(held, [{ key: 'a', count: 2, since }])
    assert.equal(gate.pass('a'), true)
    await clock.advance(60_000)
    assert.equal(held.length, 1)
    assert.equal(clock.pending, 0)
  })

  it('watches a bounded number of keys: what is beyond shares one', async () => {
    const clock = new FakeClock()
    const { gate, held } = gateOf(clock)
    for (const key of ['a', 'b', 'c', 'd', 'e', 'f']) gate.pass(key)
    gate.flush()
    assert.deepEqual(
      held.map(({ key, count }) => [key, count]),
      [['others', 2]]
    )
  })
})
