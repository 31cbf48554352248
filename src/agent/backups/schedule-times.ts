// When a VM is due by its schedule: pure, from the schedule, how its backups went, and the present time.

import { createHash } from 'node:crypto'
import { HostletError } from '../../errors.ts'
import type { BackupSchedule } from '../../protocol/backup.ts'
import type { BackupRun } from './records.ts'

/** A run that begins so much later than it was due counts as missed. */
export const lateMsMax = 120_000
/** Missed runs of a host are made up over so long, where the schedule names no jitter of its own. */
export const makeUpSpreadMs = 300_000
/** Waits after failed runs: they double, each cut by up to a half, so that VMs do not come back at once. */
export const retryBaseMs = 60_000
export const retryCapMs = 3_600_000
/** What a run may take besides its period before it counts as overdue: so much at least, and a share of the period. */
export const graceMsMin = 900_000
export const graceRatio = 0.25
/** Periods without a good backup after which it is critical. */
export const criticalPeriods = 3

/** The regular times of one schedule. */
export interface Slots {
  readonly kind: 'interval' | 'cron'
  /** The first regular time after an instant; undefined when there is none. */
  after(instant: number): number | undefined
  /** From the regular time `slot` to the next one. */
  periodAfter(slot: number): number
}

export interface Due {
  /** Wall clock. */
  readonly at: number
  readonly why: 'regular' | 'retry' | 'missed'
}

/**
 * The times of a schedule that a VM has had since `since`: that is where an interval's times are counted from. Throws
 * E_BAD_REQUEST for what no clock can follow.
 */
export async function slotsOf(schedule: BackupSchedule, since: number): Promise<Slots> {
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

const yearMs = 366 * 86_400_000

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

export interface History {
  readonly uuid: string
  readonly schedule: BackupSchedule
  /** Since when the VM has this schedule. */
  readonly since: number
  readonly run: Pick<BackupRun, 'startedAt' | 'finishedAt' | 'goodAt' | 'failures' | 'error'> | undefined
}

/** The next run. Undefined when the schedule has no times left. */
export function nextDue(slots: Slots, history: History, now: number): Due | undefined {
  const regular = nextRegular(slots, history, now)
  if (regular === undefined) return undefined
  const retryAt = retryTime(history, now)
  const at = Math.min(regular, retryAt ?? regular)
  if (at >= now - lateMsMax) return { at, why: at === regular ? 'regular' : 'retry' }
  return {
    at: now + Math.floor(spreadOf(slots, history, now) * share(history.uuid, 'missed')),
    why: 'missed'
  }
}

/** The first regular time, delayed by the VM's own part of the jitter, that no run has served. */
function nextRegular(slots: Slots, { uuid, schedule, since, run }: History, now: number): number | undefined {
  const delayMs = jitterOf(slots, { uuid, schedule }, now)
  const served = run === undefined ? undefined : run.startedAt - delayMs
  const base =
    served === undefined ? since - (slots.kind === 'interval' ? 1 : 0) : Math.max(since - 1, served)
  const slot = slots.after(notAhead(slots, base, now))
  return slot === undefined ? undefined : notFarOff(slots, slot, now) + delayMs
}

/** After the clock was put back, what was done "later" than now by more than a period says nothing. */
function notAhead(slots: Slots, base: number, now: number): number {
  return slots.kind === 'cron' && base - now > periodAt(slots, now) ? now : base
}

/** An interval's next time is at most a period away, wherever the clock was when it began. */
function notFarOff(slots: Slots, slot: number, now: number): number {
  if (slots.kind === 'cron') return slot
  const period = slots.periodAfter(slot)
  // Never now: what has just run would be due again.
  return slot - now > period ? now + ((slot - now) % period || period) : slot
}

/** The same for a VM each time, so that its backups keep their distance; never longer than a period. */
function jitterOf(slots: Slots, { uuid, schedule }: Pick<History, 'uuid' | 'schedule'>, now: number): number {
  const { jitterMs = 0 } = schedule
  return jitterMs === 0 ? 0 : Math.floor(Math.min(jitterMs, periodAt(slots, now)) * share(uuid, 'jitter'))
}

function spreadOf(slots: Slots, { schedule }: History, now: number): number {
  return Math.min(schedule.jitterMs ?? makeUpSpreadMs, periodAt(slots, now) / 2)
}

/** What was cancelled on purpose is not tried again before its time. */
function retryTime({ uuid, run }: History, now: number): number | undefined {
  if (run === undefined || run.failures === 0 || run.error?.code === 'E_CANCELLED') return undefined
  const bound = Math.min(retryCapMs, retryBaseMs * 2 ** Math.min(run.failures - 1, 30))
  return Math.min(run.finishedAt, now) + Math.floor(bound * (0.5 + share(uuid, `retry ${run.failures}`) / 2))
}

function periodAt(slots: Slots, now: number): number {
  const slot = slots.after(now)
  return slot === undefined ? yearMs : slots.periodAfter(slot)
}

/** 0 to 1, the same for a VM and a purpose after each restart. */
function share(uuid: string, purpose: string): number {
  return createHash('sha256').update(`${purpose} ${uuid}`).digest().readUInt32BE() / 2 ** 32
}

/** When a VM without a newer good backup is overdue, and when that is critical. Undefined when nothing is due any more. */
export function overdueTimes(
  slots: Slots,
  { schedule, since, run }: History,
  now: number
): { readonly warningAt: number; readonly criticalAt: number } | undefined {
  const base = Math.min(now, Math.max(run?.goodAt ?? since, since))
  const slot = slots.after(base)
  if (slot === undefined) return undefined
  const period = slots.periodAfter(slot)
  const jitterMs = Math.min(schedule.jitterMs ?? 0, period)
  const warningAt = slot + jitterMs + Math.max(graceMsMin, period * graceRatio)
  return { warningAt, criticalAt: warningAt + (criticalPeriods - 1) * period }
}
