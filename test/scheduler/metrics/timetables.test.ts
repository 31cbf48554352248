// Times of cron expressions that are remembered: the same ones, and asked of the calendar once for each span.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { type Slots, slotsOf } from '../../../src/lib/timetable.ts'
import { remembering } from '../../../src/scheduler/metrics/timetables.ts'

const dayMs = 86_400_000

describe('remembered times', () => {
  it('are those of the schedule, in whatever order they are asked for', async () => {
    const schedule = { cron: '30 2 * * *', timeZone: 'Europe/Berlin' }
    const slots = await slotsOf(schedule, 0)
    const from = Date.parse('2026-03-25T00:00:00Z')
    const instants = fc.array(fc.integer({ min: from, max: from + 10 * dayMs }), { maxLength: 30 })
    fc.assert(
      fc.property(instants, (asked) => {
        const kept = remembering(slots)
        for (const instant of asked) {
          const slot = kept.after(instant)
          assert.equal(slot, slots.after(instant))
          if (slot !== undefined) assert.equal(kept.periodAfter(slot), slots.periodAfter(slot))
        }
      })
    )
  })

  it('cost one look at the calendar for a span', () => {
    let looks = 0
    const daily: Slots = {
      kind: 'cron',
      after: (instant) => {
        looks += 1
        return (Math.floor(instant / dayMs) + 1) * dayMs
      },
      periodAfter: () => dayMs
    }
    const kept = remembering(daily)
    kept.after(0)
    for (let instant = 0; instant < dayMs; instant += 1_000) assert.equal(kept.after(instant), dayMs)
    assert.equal(looks, 1)
  })
})
