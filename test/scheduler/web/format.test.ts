// Figures and times of the dashboard as people read them.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { ago, bytes, duration, percent, plural } from '../../../src/scheduler/web/format.ts'

describe('figures of the dashboard', () => {
  it('show bytes with three digits at most and a unit', () => {
    const cases: readonly [number, string][] = [
      [0, '0 B'],
      [999, '999 B'],
      [1_000, '0.98 KiB'],
      [1_536, '1.5 KiB'],
      [10 * 1024 ** 2, '10 MiB'],
      [1_023 * 1024 ** 3, '1 TiB'],
      [7_200 * 1024 ** 3, '7.03 TiB'],
      [5_000 * 1024 ** 5, '5000 PiB']
    ]
    for (const [value, text] of cases) assert.equal(bytes(value), text)
  })

  it('show small shares with one digit behind the point', () => {
    for (const [value, text] of [
      [0, '0 %'],
      [0.004, '0.4 %'],
      [0.0994, '9.9 %'],
      [0.0999, '10 %'],
      [1, '100 %']
    ] as const)
      assert.equal(percent(value), text)
  })

  it('show durations in two units at most', () => {
    for (const [value, text] of [
      [0, '0 ms'],
      [-5, '0 ms'],
      [999, '999 ms'],
      [59_999, '59 s'],
      [61_000, '1 min 1 s'],
      [7_200_000, '2 h'],
      [90_061_000, '1 d 1 h']
    ] as const)
      assert.equal(duration(value), text)
  })

  it('say how long ago or how soon', () => {
    assert.equal(ago(1_000, 2_000), 'now')
    assert.equal(ago(0, 61_000), '1 min ago')
    assert.equal(ago(7_300_000, 0), 'in 2 h')
  })

  it('count in words', () => {
    assert.equal(plural(1, 'host'), '1 host')
    assert.equal(plural(2_000, 'host'), '2,000 hosts')
  })
})
