// One VM with a schedule: when its next backup is, and how late it is with the last.

import { asHostletError, type ErrorReport } from '../../errors.ts'
import type { Clock } from '../../lib/clock.ts'
import { overdueTimes, type Slots, slotsOf } from '../../lib/timetable.ts'
import type { BackupRecords } from './records.ts'
import type { ScheduledVm } from './schedule.ts'
import { type Due, type History, nextDue } from './schedule-times.ts'

/** Waits after a run that could not even begin, in memory only: they double up to the longest. */
export const postponeBaseMs = 30_000
export const postponeCapMs = 900_000

/** How the backups of one VM stand. */
export interface PlanHealth {
  readonly vm: string
  readonly target: string
  /** Its last good backup is older than its schedule allows. */
  readonly overdue: 'no' | 'warning' | 'critical'
  /** Runs that failed since the last good one. */
  readonly failures: number
  readonly error: ErrorReport | undefined
}

interface PlanOptions {
  readonly records: Pick<BackupRecords, 'scheduledSince' | 'lastRun'>
  readonly clock: Pick<Clock, 'now' | 'monotonic'>
  readonly before?: Plan | undefined
}

interface Times {
  readonly kind: Slots['kind']
  readonly due: Due | undefined
  readonly overdue: ReturnType<typeof overdueTimes>
}

export class Plan {
  vm: ScheduledVm
  readonly #history: History
  readonly #times: Times | undefined
  /** Why the schedule cannot be followed. */
  readonly fault: ErrorReport | undefined
  /** On the monotonic clock, where that decides. */
  #dueMonotonic: number | undefined
  #postponements = 0
  #clockWasSet = false

  private constructor(vm: ScheduledVm, history: History, found: Times | ErrorReport, options: PlanOptions) {
    this.vm = vm
    this.#history = history
    if ('code' in found) this.fault = found
    else this.#times = found
    const { due, kind } = this.#times ?? {}
    const byWallClock = kind === 'cron' && due?.why === 'regular'
    if (due !== undefined && !byWallClock)
      this.#dueMonotonic = options.clock.monotonic() + due.at - options.clock.now()
  }

  /** The plan from what is recorded; the same one where nothing has changed, so that its waits go on. */
  static async of(vm: ScheduledVm, options: PlanOptions): Promise<Plan> {
    const { records, before, clock } = options
    const { uuid, schedule } = vm
    const since = records.scheduledSince(uuid, schedule)
    const history: History = { uuid, schedule, since, run: records.lastRun(uuid, schedule.target) }
    if (before?.isOf(history)) {
      before.vm = vm
      return before
    }
    const now = clock.now()
    try {
      const slots = await slotsOf(schedule, since)
      const due = nextDue(slots, history, now)
      return new Plan(
        vm,
        history,
        {
          kind: slots.kind,
          due,
          overdue: overdueTimes(slots, { ...history, goodAt: history.run?.goodAt }, now)
        },
        options
      )
    } catch (error) {
      return new Plan(vm, history, asHostletError(error).toReport(), options)
    }
  }

  /** On the wall clock. */
  get nextAt(): number | undefined {
    return this.#times?.due?.at
  }

  /** When its last good backup is older than its schedule allows. */
  get overdueAt(): number | undefined {
    return this.#times?.overdue?.warningAt
  }

  get why(): Due['why'] | undefined {
    return this.#times?.due?.why
  }

  isOf(history: History): boolean {
    return !this.#clockWasSet && JSON.stringify(history) === JSON.stringify(this.#history)
  }

  /** Makes the next look at it plan anew, where the wall clock decides. */
  clockWasSet(): void {
    this.#clockWasSet = this.#dueMonotonic === undefined
  }

  /** 0 or less when it is due. */
  waitMs(clock: Pick<Clock, 'now' | 'monotonic'>): number {
    if (this.#dueMonotonic !== undefined) return this.#dueMonotonic - clock.monotonic()
    return this.nextAt === undefined ? Number.POSITIVE_INFINITY : this.nextAt - clock.now()
  }

  /** The run could not begin now: it is tried again after a while that grows. */
  postpone(clock: Pick<Clock, 'monotonic'>): number {
    const ms = Math.min(postponeCapMs, postponeBaseMs * 2 ** Math.min(this.#postponements++, 30))
    this.#dueMonotonic = clock.monotonic() + ms
    return ms
  }

  health(now: number): PlanHealth {
    const { vm, fault } = this
    const { run } = this.#history
    const { warningAt = Number.POSITIVE_INFINITY, criticalAt = warningAt } = this.#times?.overdue ?? {}
    return {
      vm: vm.name,
      target: vm.schedule.target,
      overdue: now > criticalAt ? 'critical' : now > warningAt ? 'warning' : 'no',
      failures: fault === undefined ? (run?.failures ?? 0) : Number.POSITIVE_INFINITY,
      error: fault ?? run?.error
    }
  }
}
