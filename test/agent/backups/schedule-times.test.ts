// When a backup is due: regular, missed, tried again, and late; over clocks that are set and days of other lengths.

import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { describe, it } from 'node:test'
import {
  type History,
  lateMsMax,
  makeUpSpreadMs,
  nextDue,
  retryBaseMs,
  retryCapMs
} from '../../../src/agent/backups/schedule-times.ts'
import { graceMsMin, overdueTimes, slotsOf } from '../../../src/lib/timetable.ts'
import type { BackupSchedule } from '../../../src/protocol/backup.ts'
import { vmUuid } from './record-samples.ts'

const hourMs = 3_600_000
const dayMs = 24 * hourMs
const at = (text: string) => Date.parse(text)
const nightly: BackupSchedule = { target: 'vault', cron: '0 3 * * *', timeZone: 'UTC' }
const hourly: BackupSchedule = { target: 'vault', everyMs: hourMs }

function historyOf(
  schedule: BackupSchedule,
  since: number,
  run?: Partial<NonNullable<History['run']>>
): History {
  const startedAt = run?.startedAt ?? since
  const known = { startedAt, finishedAt: startedAt + 1_000, goodAt: startedAt, failures: 0, error: undefined }
  return { uuid: vmUuid, schedule, since, run: run && { ...known, ...run } }
}

async function due(history: History, now: number) {
  return nextDue(await slotsOf(history.schedule, history.since), history, now)
}

describe('the next backup', () => {
  it('by an interval is at once, then a period after the last regular time, however long a run took to begin', async () => {
    const since = at('2030-01-01T10:00:00Z')
    assert.deepEqual(await due(historyOf(hourly, since), since), { at: since, why: 'regular' })
    const late = historyOf(hourly, since, { startedAt: since + 90_000 })
    assert.deepEqual(await due(late, since + 95_000), { at: since + hourMs, why: 'regular' })
  })

  it('by cron is the first time after the last run, in its time zone', async () => {
    const berlin = { ...nightly, timeZone: 'Europe/Berlin' }
    const startedAt = at('2030-01-01T02:00:01Z')
    const history = historyOf(berlin, at('2029-12-01T00:00:00Z'), { startedAt })
    assert.equal((await due(history, startedAt))?.at, at('2030-01-02T02:00:00Z'))
  })

  it('by cron without any run is the first time since the schedule was set, also when that was missed', async () => {
    const since = at('2030-01-01T02:00:00Z')
    assert.deepEqual(await due(historyOf(nightly, since), since), {
      at: at('2030-01-01T03:00:00Z'),
      why: 'regular'
    })
    const missed = await due(historyOf(nightly, since), at('2030-01-01T04:00:00Z'))
    assert.equal(missed?.why, 'missed')
  })

  it('keeps to the hour over the change of summer time', async () => {
    const schedule = { ...nightly, timeZone: 'Europe/Berlin' }
    const times = ['2030-03-30T02:00:00Z', '2030-03-31T01:00:00Z', '2030-04-01T01:00:00Z']
    for (const [index, time] of times.slice(1).entries()) {
      const startedAt = at(times[index] ?? '') + 500
      assert.equal((await due(historyOf(schedule, 0, { startedAt }), startedAt))?.at, at(time))
    }
  })

  it('that was missed is made up once, within the spread, and the next is regular again', async () => {
    const now = at('2030-01-05T12:00:00Z')
    const offsets = new Set<number>()
    for (let count = 0; count < 50; count++) {
      const history = {
        ...historyOf(nightly, 0, { startedAt: at('2030-01-01T03:00:00Z') }),
        uuid: randomUUID()
      }
      const found = await due(history, now)
      assert.equal(found?.why, 'missed')
      offsets.add(found.at - now)
      assert.ok(found.at >= now && found.at < now + makeUpSpreadMs)
      const after = { ...history, run: { ...history.run, startedAt: found.at } } as History
      assert.deepEqual(await due(after, found.at), { at: at('2030-01-06T03:00:00Z'), why: 'regular' })
    }
    assert.ok(offsets.size > 25, `${offsets.size} different offsets`)
  })

  it('that is only a little late is not put off further', async () => {
    const time = at('2030-01-01T03:00:00Z')
    const history = historyOf(nightly, time - dayMs, { startedAt: time - dayMs })
    assert.deepEqual(await due(history, time + lateMsMax), { at: time, why: 'regular' })
    assert.equal((await due(history, time + lateMsMax + 1))?.why, 'missed')
  })

  it('is delayed by its part of the jitter: the same each time, never more than a period', async () => {
    const delays = new Set<number>()
    for (const jitterMs of [10 * 60_000, 5 * hourMs])
      for (let count = 0; count < 50; count++) {
        const history = { ...historyOf({ ...hourly, jitterMs }, 0), uuid: randomUUID() }
        const first = (await due(history, 0))?.at ?? -1
        assert.ok(first >= 0 && first < Math.min(jitterMs, hourMs), String(first))
        const ran = { ...history, run: { ...historyOf(hourly, 0, { startedAt: first + 20 }).run } } as History
        assert.equal((await due(ran, first + 20))?.at, first + hourMs)
        delays.add(first)
      }
    assert.ok(delays.size > 50)
  })

  it('after a failure is tried again with waits that grow, until the next regular time', async () => {
    const startedAt = at('2030-01-01T03:00:00Z')
    let last = 0
    for (let failures = 1; failures <= 12; failures++) {
      const history = historyOf(nightly, 0, { startedAt, finishedAt: startedAt, failures })
      const found = await due(history, startedAt)
      const bound = Math.min(retryCapMs, retryBaseMs * 2 ** (failures - 1))
      const wait = (found?.at ?? 0) - startedAt
      assert.equal(found?.why, 'retry')
      assert.ok(wait >= bound / 2 && wait <= bound, `${failures}: ${wait}`)
      assert.ok(failures > 6 || wait >= last)
      last = wait
    }
    const shortly = at('2030-01-02T02:59:50Z')
    const late = historyOf(nightly, 0, { startedAt: shortly, finishedAt: shortly, failures: 3 })
    assert.deepEqual(await due(late, shortly), { at: at('2030-01-02T03:00:00Z'), why: 'regular' })
  })

  it('after one that was cancelled waits for its regular time', async () => {
    const startedAt = at('2030-01-01T03:00:00Z')
    const error = { code: 'E_CANCELLED', message: 'cancelled' } as const
    const history = historyOf(nightly, 0, { startedAt, failures: 1, error })
    assert.deepEqual(await due(history, startedAt + 10), { at: at('2030-01-02T03:00:00Z'), why: 'regular' })
  })

  it('is never further off than a period, wherever the clock was before', async () => {
    const yearAhead = at('2031-01-01T10:20:00Z')
    const now = at('2030-01-01T10:00:00Z')
    for (const history of [
      historyOf(hourly, yearAhead),
      historyOf(hourly, 0, { startedAt: yearAhead }),
      historyOf(nightly, yearAhead),
      historyOf(nightly, 0, { startedAt: yearAhead }),
      historyOf(nightly, 0, { startedAt: yearAhead, finishedAt: yearAhead, failures: 2 })
    ]) {
      const wait = ((await due(history, now))?.at ?? Number.NaN) - now
      assert.ok(wait >= 0 && wait <= dayMs, String(wait))
    }
  })

  it('comes once for a time of day that a clock put back comes by twice', async () => {
    const startedAt = at('2030-01-02T03:00:01Z')
    const history = historyOf(nightly, 0, { startedAt })
    assert.equal((await due(history, startedAt - hourMs))?.at, at('2030-01-03T03:00:00Z'))
  })
})

describe('a schedule that no clock can follow', () => {
  const bad: [string, Partial<BackupSchedule>][] = [
    ['has neither interval nor cron', {}],
    ['has both', { everyMs: hourMs, cron: '0 3 * * *' }],
    ['has seconds', { cron: '0 0 3 * * *' }],
    ['has a minute 61', { cron: '61 3 * * *' }],
    ['names a day that never comes', { cron: '0 3 30 2 *' }],
    ['names a time zone that is none', { cron: '0 3 * * *', timeZone: 'Mars/Olympus' }],
    ['is not cron', { cron: 'every night' }]
  ]
  for (const [what, rest] of bad)
    it(`is refused when it ${what}`, async () => {
      await assert.rejects(slotsOf({ target: 'vault', ...rest }, 0), { code: 'E_BAD_REQUEST' })
    })
})

describe('a last good backup that is too old', () => {
  const since = at('2030-01-01T00:00:00Z')
  async function overdue(history: History, now: number) {
    const found = overdueTimes(
      await slotsOf(history.schedule, history.since),
      { ...history, goodAt: history.run?.goodAt },
      now
    )
    assert.ok(found)
    return found
  }

  it('is so a period and some grace after it, and critical after three', async () => {
    const startedAt = at('2030-01-10T03:00:05Z')
    const found = await overdue(historyOf(nightly, since, { startedAt }), startedAt)
    assert.equal(found.warningAt, at('2030-01-11T03:00:00Z') + dayMs / 4)
    assert.equal(found.criticalAt, found.warningAt + 2 * dayMs)
  })

  it('counts from the setting of the schedule while there is none', async () => {
    const found = await overdue(historyOf({ ...hourly, jitterMs: 60_000 }, since), since)
    assert.equal(found.warningAt, since + hourMs + 60_000 + graceMsMin)
  })

  it('does not count failed runs', async () => {
    const history = historyOf(hourly, since, { startedAt: since + 9 * hourMs, goodAt: since, failures: 9 })
    assert.equal((await overdue(history, since + 9 * hourMs)).warningAt, since + hourMs + graceMsMin)
  })
})
