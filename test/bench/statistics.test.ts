// The statistics behind every figure of bench: right on samples whose answer is known by hand.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { interleave, met } from '../../bench/harness.ts'
import { median, percentile, ratioOfPairs, slope, summarize } from '../../bench/statistics.ts'

describe('statistics of samples', () => {
  it('interpolate between the two samples nearest to a percentile', () => {
    assert.equal(percentile([40, 10, 30, 20], 0), 10)
    assert.equal(percentile([40, 10, 30, 20], 1), 40)
    assert.equal(percentile([40, 10, 30, 20], 0.5), 25)
    assert.equal(percentile([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11], 0.9), 10)
  })

  it('sort by value, not by text, and leave the samples as they were', () => {
    const samples = [100, 9, 80]
    assert.equal(median(samples), 80)
    assert.deepEqual(samples, [100, 9, 80])
  })

  it('summarize one sample as itself', () => {
    assert.deepEqual(summarize([7]), { median: 7, p10: 7, p90: 7, count: 1 })
  })

  it('take the ratio pair by pair, so that noise which hits both of a pair cancels out', () => {
    const quiet = { left: 1, right: 2 }
    const busy = { left: 50, right: 100 }
    const pairs = [quiet, busy, quiet, busy, busy]
    const ratio = ratioOfPairs(
      pairs.map(({ left }) => left),
      pairs.map(({ right }) => right)
    )
    assert.deepEqual(ratio, { median: 0.5, p10: 0.5, p90: 0.5, count: 5 })
  })

  it('find the growth a sample of a straight line, and none of a flat one', () => {
    assert.equal(slope([5, 8, 11, 14]), 3)
    assert.equal(slope([5, 5, 5]), 0)
  })

  it('refuse what would give a figure without a measurement', () => {
    assert.throws(() => median([]), RangeError)
    assert.throws(() => median([1, Number.NaN]), RangeError)
    assert.throws(() => percentile([1], 1.1), RangeError)
    assert.throws(() => ratioOfPairs([1, 2], [1]), RangeError)
    assert.throws(() => ratioOfPairs([1], [0]), RangeError)
    assert.throws(() => slope([1]), RangeError)
  })
})

describe('interleaved runs', () => {
  it('warm both up, run them in turn and swap who goes first', async () => {
    const order: string[] = []
    const contender = (name: string, value: number) => async () => {
      order.push(name)
      return value
    }
    const samples = await interleave({
      ours: contender('a', 1),
      peer: contender('b', 2),
      pairs: 3,
      warmUps: 1
    })
    assert.equal(order.join(''), 'ab' + 'ab' + 'ba' + 'ab')
    assert.deepEqual(samples, { ours: [1, 1, 1], peer: [2, 2, 2] })
  })
})

describe('targets', () => {
  it('are met at their own value and missed beyond it', () => {
    assert.equal(met({ atMost: 0.6 }, 0.6), true)
    assert.equal(met({ atMost: 0.6 }, 0.61), false)
    assert.equal(met({ atLeast: 15 }, 15), true)
    assert.equal(met({ atLeast: 15 }, 14.9), false)
  })
})
