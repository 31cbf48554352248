// The regular times of a schedule, as an interval or a cron expression, and when what it asks for is overdue. Pure.

import { HostletError } from '../errors.ts'

/** What a run may take besides its period before it counts as overdue: so much at least, and a share of the period. */
export const graceMsMin = 900_000
export const graceRatio = 0.25
/** Periods without a good backup after which it is critical. */
export const criticalPeriods = 3

/** What of a schedule decides its times: a period from when it began, or a cron expression in a time zone. */
export interface Timetable {
  readonly everyMs?: number | undefined
  readonly cron?: string | undefined
  readonly timeZone?: string | undefined
  readonly jitterMs?: number | undefined
}

/** The regular times of one schedule. */
export interface Slots {
  readonly kind: 'interval' | 'cron'
  /** The first regular time after an instant; undefined when there is none. */
  after(instant: number): number | undefined
  /** From the regular time `slot` to the next one. */
  periodAfter(slot: number): number
}

/**
 * The times of a schedule that a VM has had since `since`: that is where an interval's times are counted from. Throws
 * E_BAD_REQUEST for what no clock can follow.
 */
export async function slotsOf(schedule: Timetable, since: number): Promise<Slots> {
  const { everyMs, cron } = schedule
  if ((everyMs === undefined) === (cron === undefined))
    throw new HostletError('E_BAD_REQUEST', 'a backup schedule has either everyMs or cron, and not both')
  if (everyMs !== undefined) return intervalSlots(everyMs, since)
  return await cronSlots(cron ?? '', schedule.timeZone)
}

function intervalSlots(everyMs: number, since: number): Slots {
  return {
    kind: 'interval',
    after: (instant) => since + Math.max(0, Math.floor((instant - since) / everyMs) + 1) * everyMs,
    periodAfter: () => everyMs
  }
}

async function cronSlots(pattern: string, timezone: string | undefined): Promise<Slots> {
  // Loaded with the first schedule of the kind: most hosts have none.
  const { Cron } = await import('croner')
  const after = (instant: number) => cron.nextRun(new Date(instant))?.getTime()
  const bad = (cause?: unknown) => {
    // What the library says is for who writes programs, and begins with the name of its class.
    const said = cause instanceof Error ? cause.message.replace(/^Cron\w+: /, '') : ''
    const why = cause === undefined ? 'names no time that ever comes' : `cannot be read: ${said}`
    return new HostletError(
      'E_BAD_REQUEST',
      `the cron expression "${pattern}" ${why}. It has five fields: minute, hour, day of month, month, day of week.`.slice(
        0,
        1_024
      ),
      { cause }
    )
  }
  if (timezone !== undefined && !isTimeZone(timezone))
    throw new HostletError(
      'E_BAD_REQUEST',
      `there is no time zone "${timezone}". It has a name such as Europe/Berlin, America/New_York or UTC.`
    )
  const cron = attempt(
    () => new Cron(pattern, { mode: '5-part', paused: true, ...(timezone && { timezone }) }),
    bad
  )
  if (attempt(() => after(0), bad) === undefined) throw bad()
  return {
    kind: 'cron',
    after,
    periodAfter: (slot) => (after(slot) ?? slot + yearMs) - slot
  }
}

/** Where a schedule has no further time. */
export const yearMs = 366 * 86_400_000

function isTimeZone(name: string): boolean {
  try {
    new Intl.DateTimeFormat('en', { timeZone: name })
    return true
  } catch {
    return false
  }
}

function attempt<Value>(work: () => Value, fault: (cause: unknown) => HostletError): Value {
  try {
    return work()
  } catch (cause) {
    throw fault(cause)
  }
}

/** When a VM without a newer good backup than `goodAt` is overdue, and when that is critical. Undefined when nothing is due any more. */
export function overdueTimes(
  slots: Slots,
  { schedule, since, goodAt }: { schedule: Timetable; since: number; goodAt: number | undefined },
  now: number
): { readonly warningAt: number; readonly criticalAt: number } | undefined {
  const base = Math.min(now, Math.max(goodAt ?? since, since))
  const slot = slots.after(base)
  if (slot === undefined) return undefined
  const period = slots.periodAfter(slot)
  const jitterMs = Math.min(schedule.jitterMs ?? 0, period)
  const warningAt = slot + jitterMs + Math.max(graceMsMin, period * graceRatio)
  return { warningAt, criticalAt: warningAt + (criticalPeriods - 1) * period }
}
