// Counters and times: what is added up, under which labels, and that their kinds are bounded.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { kindsMax, Tally, Timings } from '../../src/lib/tallies.ts'
import { readExposition } from '../support/exposition.ts'

const counter = { name: 'a_total', type: 'counter', labels: ['verb'], help: 'A.' } as const
const histogram = { name: 'a_seconds', type: 'histogram', labels: ['verb'], help: 'A.' } as const

describe('a tally', () => {
  it('counts by labels, from 0 where a kind is known', () => {
    const tally = new Tally(counter, [{ verb: 'vm.start' }])
    tally.add({ verb: 'vm.stop' })
    tally.add({ verb: 'vm.stop' }, 2)
    const { values = [] } = readExposition(tally.text({ host: 'h' })).get('a_total') ?? {}
    assert.deepEqual(
      values.map(({ labels, value }) => [labels.host, labels.verb, value]),
      [
        ['h', 'vm.start', 0],
        ['h', 'vm.stop', 3]
      ]
    )
  })

  it('takes no more kinds than it may', () => {
    const tally = new Tally(counter)
    for (let index = 0; index < kindsMax + 10; index += 1) tally.add({ verb: String(index) })
    assert.equal(readExposition(tally.text()).get('a_total')?.values.length, kindsMax)
  })
})

describe('times', () => {
  it('stand in every bucket that is not below them', () => {
    const timings = new Timings(histogram, [1, 5])
    for (const seconds of [0.5, 1, 4, 60]) timings.observe({ verb: 'vm.start' }, seconds)
    const { values = [] } = readExposition(timings.text()).get('a_seconds') ?? {}
    assert.deepEqual(
      values.map(({ name, labels, value }) => [name, labels.le, value]),
      [
        ['a_seconds_bucket', '1', 2],
        ['a_seconds_bucket', '5', 3],
        ['a_seconds_bucket', '+Inf', 4],
        ['a_seconds_sum', undefined, 65.5],
        ['a_seconds_count', undefined, 4]
      ]
    )
  })
})
