// Backs VMs up by their schedules, whether or not anybody is connected: which is next, when, and what follows a run.

import { asHostletError } from '../../errors.ts'
import type { Clock } from '../../lib/clock.ts'
import { startDeadline } from '../../lib/deadline.ts'
import type { Logger } from '../../lib/log.ts'
import type { BackupSchedule } from '../../protocol/backup.ts'
import type { Wait } from '../host/hypervisor.ts'
import type { LocalOperation, LocalRequest } from '../operations/local.ts'
import type { BackupRecords } from './records.ts'
import { backupVerb } from './records-report.ts'
import { Plan, type PlanHealth } from './schedule-plan.ts'
import { ScheduledRun } from './schedule-run.ts'

/** Longest time without a look at the clock, while there are schedules: how late a step of the wall clock is noticed. */
export const tickMs = 30_000
/** The wall clock was set, not merely corrected. */
export const clockStepMsMin = 5_000
export const lookDeadlineMs = 30_000
/** VMs with schedules on one host; more are not looked at, and the log says so. */
export const scheduledVmsMax = 16_384

export interface ScheduledVm {
  readonly name: string
  readonly uuid: string
  readonly generation: number
  readonly schedule: BackupSchedule
}

/** The part of the dispatcher that begins operations without a command. */
export interface OwnOperations {
  begin(request: LocalRequest): Promise<LocalOperation>
  localOperations(): readonly LocalOperation[]
}

export interface BackupSchedulerOptions {
  /** VMs that have a schedule, as the hypervisor knows them. */
  vms(wait: Wait): Promise<readonly ScheduledVm[]>
  readonly readiness: { isReady(): boolean }
  readonly records: BackupRecords
  readonly operations: OwnOperations
  /** Scheduled runs at a time, on the whole host. */
  readonly runsAtOnceMax: number
  /** The host takes no new work: what is due waits until `refresh` is called. */
  isPaused?(): boolean
  /** There are reports to be sent. */
  onReports(): void
  readonly clock: Clock
  readonly log: Logger
}

export class BackupScheduler implements AsyncDisposable {
  readonly #options: BackupSchedulerOptions
  readonly #stopping = new AbortController()
  readonly #plans = new Map<string, Plan>()
  readonly #running = new Map<string, Promise<void>>()
  #loop: Promise<void> = Promise.resolve()
  #poke = new AbortController()
  #stale = true
  /** Up to this one reports are held that nobody else releases; 0 for none. */
  #held = 0
  #drift: number

  constructor(options: BackupSchedulerOptions) {
    this.#options = options
    this.#drift = this.#driftNow()
  }

  /** Call once, after the dispatcher has resumed what was left: scheduled runs among it are seen to their end. */
  begin(): void {
    const { operations, records } = this.#options
    this.#held = records.newestHeld()
    this.#release()
    for (const operation of operations.localOperations())
      if (operation.verb === backupVerb && operation.subject !== undefined)
        this.#own(operation.subject.uuid, (run) => run.resume(operation))
    this.#loop = this.#run()
  }

  /** VMs or their schedules may have changed, a run may have ended, or the hypervisor is back. */
  refresh(): void {
    this.#stale = true
    this.#poke.abort()
  }

  /** How the backups of every VM with a schedule stand. */
  health(): readonly PlanHealth[] {
    const now = this.#options.clock.now()
    return [...this.#plans.values()].map((plan) => plan.health(now))
  }

  /** Of every VM with a schedule: when its last good backup becomes older than that allows. */
  overdueTimes(): readonly {
    readonly vm: string
    readonly uuid: string
    readonly target: string
    readonly overdueAt: number | undefined
  }[] {
    return [...this.#plans.values()].map(({ vm: { name, uuid, schedule }, overdueAt }) => ({
      vm: name,
      uuid,
      target: schedule.target,
      overdueAt
    }))
  }

  /** When a VM is backed up next; undefined when it is not, or not known. */
  nextAt(uuid: string): number | undefined {
    return this.#plans.get(uuid)?.nextAt
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stopping.abort(new Error('the agent stops'))
    await Promise.allSettled([this.#loop, ...this.#running.values()])
  }

  async #run(): Promise<void> {
    const { signal } = this.#stopping
    while (!signal.aborted) {
      this.#poke = new AbortController()
      await this.#turn()
      await this.#pause()
    }
  }

  /** A disk that is full keeps no agent from starting: they are told once there is room. */
  #release(): void {
    if (this.#held === 0) return
    const { records, onReports, log } = this.#options
    try {
      records.releaseUpTo(this.#held)
      this.#held = 0
      onReports()
    } catch (error) {
      log.warn({ error: asHostletError(error) }, 'reports of earlier backups could not be released')
    }
  }

  async #turn(): Promise<void> {
    this.#noticeClock()
    this.#release()
    try {
      if (this.#stale && this.#options.readiness.isReady()) await this.#look()
      this.#beginDue()
    } catch (error) {
      if (!this.#stopping.signal.aborted)
        this.#options.log.warn({ error: asHostletError(error) }, 'backup schedules could not be looked at')
    }
  }

  /** Until the next run is due, something has changed, or it is time to look at the clock. */
  async #pause(): Promise<void> {
    const { clock } = this.#options
    const signal = AbortSignal.any([this.#stopping.signal, this.#poke.signal])
    if (signal.aborted) return
    const waits = [...this.#plans.values()].map((plan) => plan.waitMs(clock))
    const failed = this.#stale && this.#options.readiness.isReady()
    if (waits.length === 0 && !failed && this.#held === 0) return await aborted(signal)
    const free = this.#running.size < this.#options.runsAtOnceMax && this.#options.isPaused?.() !== true
    const ms = free ? Math.min(tickMs, ...waits) : tickMs
    await clock.sleep(Math.max(1_000, ms), signal).catch(() => undefined)
  }

  async #look(): Promise<void> {
    const { clock, log, records, vms } = this.#options
    const what = 'the look at backup schedules'
    using deadline = startDeadline({ clock, ms: lookDeadlineMs, what, signal: this.#stopping.signal })
    this.#stale = false
    try {
      const found = await vms({ signal: deadline.signal })
      if (found.length > scheduledVmsMax)
        log.error({ vms: found.length }, 'too many VMs have backup schedules')
      const scheduled = found.slice(0, scheduledVmsMax)
      const uuids = new Set(scheduled.map(({ uuid }) => uuid))
      records.keepSchedules(uuids)
      for (const uuid of this.#plans.keys()) if (!uuids.has(uuid)) this.#plans.delete(uuid)
      for (const vm of scheduled) await this.#plan(vm)
    } catch (error) {
      this.#stale = true
      throw error
    }
  }

  async #plan(vm: ScheduledVm): Promise<void> {
    const { clock, log, records } = this.#options
    const before = this.#plans.get(vm.uuid)
    const plan = await Plan.of(vm, { records, clock, before })
    this.#plans.set(vm.uuid, plan)
    if (plan === before) return
    const { nextAt, why, fault } = plan
    if (fault === undefined) log.debug({ vm: vm.name, nextAt, why }, 'backup planned')
    else log.error({ vm: vm.name, error: fault }, 'backup schedule cannot be followed')
  }

  #beginDue(): void {
    const { clock, log, runsAtOnceMax, isPaused } = this.#options
    if (isPaused?.()) return
    const due = [...this.#plans.values()].filter(
      (plan) => plan.waitMs(clock) <= 0 && !this.#running.has(plan.vm.uuid)
    )
    due.sort((left, right) => (left.nextAt ?? 0) - (right.nextAt ?? 0))
    for (const plan of due) {
      if (this.#running.size >= runsAtOnceMax) return
      const { vm, why } = plan
      log.info({ vm: vm.name, target: vm.schedule.target, why }, 'scheduled backup begins')
      this.#own(vm.uuid, (run) => run.begin(plan))
    }
  }

  /** Sees one run to its end; its VM is planned anew only then. */
  #own(uuid: string, work: (run: ScheduledRun) => Promise<void>): void {
    const { log } = this.#options
    const run = new ScheduledRun({
      ...this.#options,
      stop: this.#stopping.signal,
      scheduleOf: (vm) => this.#plans.get(vm)?.vm.schedule,
      nextAt: async (vm) => {
        const plan = this.#plans.get(vm)
        if (plan !== undefined) await this.#plan(plan.vm)
        return this.nextAt(vm)
      }
    })
    const owned = work(run)
      .catch((error) => {
        if (!this.#stopping.signal.aborted)
          log.error({ error: asHostletError(error) }, 'scheduled backup was left')
      })
      .finally(() => {
        this.#running.delete(uuid)
        this.refresh()
      })
    this.#running.set(uuid, owned)
  }

  /** What waits for a time of day is planned anew when that has jumped. What waits for a while goes on waiting. */
  #noticeClock(): void {
    const drift = this.#driftNow()
    const stepMs = Math.round(drift - this.#drift)
    this.#drift = drift
    if (Math.abs(stepMs) < clockStepMsMin) return
    this.#options.log.warn({ stepMs }, 'the clock was set: backups by the time of day are planned anew')
    for (const plan of this.#plans.values()) plan.clockWasSet()
    this.#stale = true
  }

  #driftNow(): number {
    return this.#options.clock.now() - this.#options.clock.monotonic()
  }
}

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve()
    signal.addEventListener('abort', () => resolve(), { once: true })
  })
}
