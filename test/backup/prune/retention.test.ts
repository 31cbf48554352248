// Retention: what each rule keeps, against a model that looks at one snapshot at a time.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { chooseKept, type Dated, type Retention } from '../../../src/backup/prune/retention.ts'

const at = (text: string) => Date.parse(text)
const dated = (...times: string[]): Dated[] => times.map((time) => ({ id: time, at: at(time) }))

/** The Monday that begins a week, as a date. */
function monday(time: number): string {
  const date = new Date(time)
  date.setUTCDate(date.getUTCDate() - ((date.getUTCDay() + 6) % 7))
  return date.toISOString().slice(0, 10)
}

const labels: Readonly<Record<string, (time: number) => string>> = {
  hourly: (time) => new Date(time).toISOString().slice(0, 13),
  daily: (time) => new Date(time).toISOString().slice(0, 10),
  weekly: monday,
  monthly: (time) => new Date(time).toISOString().slice(0, 7),
  yearly: (time) => new Date(time).toISOString().slice(0, 4)
}

/** A snapshot stays by a rule when nothing newer is of its period and fewer than so many periods are newer. */
function staysByModel(snapshots: readonly Dated[], index: number, keep: Retention): boolean {
  const newer = snapshots.slice(index + 1)
  const one = snapshots[index]
  if (one === undefined) return false
  if (newer.length < Math.max(1, keep.last ?? 0)) return true
  return Object.entries(labels).some(([rule, label]) => {
    const count = keep[rule as keyof Retention] ?? 0
    const periods = new Set(newer.map((other) => label(other.at)))
    return !periods.has(label(one.at)) && periods.size < count
  })
}

describe('retention', () => {
  it('keeps what a plain reading of the rules keeps', () => {
    const count = fc.option(fc.nat(5), { nil: undefined })
    const rules = fc.record({
      last: count,
      hourly: count,
      daily: count,
      weekly: count,
      monthly: count,
      yearly: count
    })
    const span = fc.constantFrom(3_600_000, 86_400_000, 40 * 86_400_000, 900 * 86_400_000)
    const steps = span.chain((max) => fc.array(fc.integer({ min: -max / 50, max }), { maxLength: 60 }))
    fc.assert(
      fc.property(rules, steps, fc.integer({ min: 0, max: at('2031-01-01') }), (keep, gaps, start) => {
        let time = start
        const snapshots = gaps.map((gap, index) => {
          time = Math.max(0, time + Math.floor(gap))
          return { id: `s${index}`, at: time }
        })
        const expected = snapshots
          .filter((_, index) => staysByModel(snapshots, index, keep))
          .map(({ id }) => id)
        assert.deepEqual([...chooseKept(snapshots, keep)].sort(), expected.sort())
      }),
      { numRuns: 500 }
    )
  })

  it('keeps the newest whatever the rules say', () => {
    assert.deepEqual([...chooseKept(dated('2030-01-01', '2030-01-02'), {})], ['2030-01-02'])
    assert.deepEqual([...chooseKept([], { last: 3 })], [])
  })

  it('begins weeks on Monday, and days at midnight UTC', () => {
    const sunday = '2029-12-30T23:59:59.999Z'
    const mondayMorning = '2029-12-31T00:00:00Z'
    const nextSunday = '2030-01-06T12:00:00Z'
    assert.deepEqual(
      [...chooseKept(dated(sunday, mondayMorning, nextSunday), { weekly: 2 })].sort(),
      [sunday, nextSunday].sort()
    )
  })

  it('counts only periods that have a snapshot, so that a VM that was off for a year keeps its backups', () => {
    const times = ['2028-05-01T10:00:00Z', '2028-05-02T10:00:00Z', '2030-05-01T10:00:00Z']
    assert.equal(chooseKept(dated(...times), { daily: 3 }).size, 3)
  })
})
