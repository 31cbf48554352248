// Samples of the dashboard's charts: joined with what is new, and with a hole where nothing was heard.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { columns, joined, newsSince, type Point } from '../../../src/scheduler/web/series.ts'

const points = (...times: readonly number[]): Point<number>[] => times.map((at) => ({ at, sample: at / 10 }))

describe('samples of a chart', () => {
  it('become columns of seconds and figures', () => {
    const pick = (sample: number) => (sample > 150 ? undefined : sample)
    assert.deepEqual(columns(points(1_000, 2_000), [pick, (sample) => sample]), [
      [1, 2],
      [100, null],
      [100, 200]
    ])
  })

  it('have a hole where three or more are missing', () => {
    const [times, values] = columns(points(1_000, 2_000, 3_000, 9_000, 10_000), [(sample) => sample])
    assert.deepEqual(times, [1, 2, 3, 6, 9, 10])
    assert.deepEqual(values, [100, 200, 300, null, 900, 1000])
  })

  it('of a span that was not over are replaced, and old ones go', () => {
    const known = points(1_000, 2_000, 3_500)
    assert.equal(newsSince(known, 1_000), 3_000)
    assert.deepEqual(
      joined(known, points(3_900, 4_100), { since: 2_000 }).map(({ at }) => at),
      [2_000, 3_500, 3_900, 4_100]
    )
    assert.deepEqual(
      joined(known, points(3_400, 4_100), { since: 0 }).map(({ at }) => at),
      [1_000, 2_000, 3_400, 4_100]
    )
    assert.deepEqual(
      joined(known, [], { since: 3_000 }).map(({ at }) => at),
      [3_500]
    )
    assert.equal(newsSince([], 1_000), undefined)
  })

  it('that are none make empty columns', () => {
    assert.deepEqual(columns([], [(sample: number) => sample]), [[], []])
  })
})
