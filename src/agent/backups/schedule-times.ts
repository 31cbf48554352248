// When a VM is due by its schedule: pure, from the schedule, how its backups went, and the present time.

import { createHash } from 'node:crypto'
import { type Slots, yearMs } from '../../lib/timetable.ts'
import type { BackupSchedule } from '../../protocol/backup.ts'
import type { BackupRun } from './records.ts'

/** A run that begins so much later than it was due counts as missed. */
export const lateMsMax = 120_000
/** Missed runs of a host are made up over so long, where the schedule names no jitter of its own. */
export const makeUpSpreadMs = 300_000
/** Waits after failed runs: they double, each cut by up to a half, so that VMs do not come back at once. */
export const retryBaseMs = 60_000
export const retryCapMs = 3_600_000
export interface Due {
  /** Wall clock. */
  readonly at: number
  readonly why: 'regular' | 'retry' | 'missed'
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
