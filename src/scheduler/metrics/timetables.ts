// When backups become overdue, for many VMs that share a few schedules: what a cron expression says is worked out once.

import { overdueTimes, type Slots, slotsOf } from '../../lib/timetable.ts'
import type { FleetVm } from '../store/fleet-store.ts'

type Scheduled = NonNullable<FleetVm['schedule']>

/** Spans between two times of one expression that are kept: backups of a fleet were made in the same few. */
const spansMax = 32

export class Timetables {
  readonly #crons = new Map<string, Promise<Slots | undefined>>()

  /** Undefined where nothing is due, or the schedule cannot be followed: its host has a condition then. */
  async overdueAt(
    { schedule, setAt }: Scheduled,
    goodAt: number | undefined,
    now: number
  ): Promise<number | undefined> {
    const slots = await this.#slotsOf(schedule, setAt)
    return slots && overdueTimes(slots, { schedule, since: setAt, goodAt }, now)?.warningAt
  }

  async #slotsOf(schedule: Scheduled['schedule'], setAt: number): Promise<Slots | undefined> {
    const read = () => slotsOf(schedule, setAt).catch(() => undefined)
    if (schedule.cron === undefined) return read()
    const key = `${schedule.cron} ${schedule.timeZone ?? ''}`
    const known = this.#crons.get(key) ?? read().then((slots) => slots && remembering(slots))
    this.#crons.set(key, known)
    return known
  }
}

/** The same times; asked for one between two instants that had the same next time, it needs no calendar. */
export function remembering(slots: Slots): Slots {
  const spans: { from: number; readonly to: number }[] = []
  const after = (instant: number): number | undefined => {
    const known = spans.find(({ from, to }) => instant >= from && instant < to)
    if (known !== undefined) return known.to
    const to = slots.after(instant)
    if (to === undefined) return undefined
    const wider = spans.find((span) => span.to === to)
    if (wider !== undefined) wider.from = Math.min(wider.from, instant)
    else if (spans.unshift({ from: instant, to }) > spansMax) spans.pop()
    return to
  }
  return {
    kind: slots.kind,
    after,
    periodAfter: (slot) => (after(slot) ?? slot + slots.periodAfter(slot)) - slot
  }
}
