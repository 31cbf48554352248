// One scheduled run from its beginning to its report: the backup, and what its schedule says is kept.

import { asHostletError, type HostletError } from '../../errors.ts'
import type { Clock } from '../../lib/clock.ts'
import { untilAborted } from '../../lib/deadline.ts'
import type { Logger } from '../../lib/log.ts'
import type { BackupSchedule, PruneResult } from '../../protocol/backup.ts'
import type { CommandSubject } from '../../protocol/command.ts'
import type { LocalOperation } from '../operations/local.ts'
import type { BackupRecords } from './records.ts'
import { backupVerb, refusedReport } from './records-report.ts'
import type { OwnOperations, ScheduledVm } from './schedule.ts'
import type { Plan } from './schedule-plan.ts'

const pruneVerb = 'backup.prune'
/** Removed snapshots that a report names; more are removed all the same. */
const removedMax = 1_024

export interface ScheduledRunOptions {
  readonly records: BackupRecords
  readonly operations: OwnOperations
  readonly clock: Clock
  readonly log: Logger
  readonly stop: AbortSignal
  scheduleOf(uuid: string): BackupSchedule | undefined
  /** Plans the VM anew and tells its next run. */
  nextAt(uuid: string): Promise<number | undefined>
  onReports(): void
}

export class ScheduledRun {
  readonly #options: ScheduledRunOptions

  constructor(options: ScheduledRunOptions) {
    this.#options = options
  }

  async begin(plan: Plan): Promise<void> {
    const { vm } = plan
    try {
      const operation = await this.#options.operations.begin({
        verb: backupVerb,
        subject: subjectOf(vm),
        arguments: argumentsOf(vm)
      })
      await this.resume(operation)
    } catch (error) {
      if (this.#options.stop.aborted) return
      await this.#refused(plan, asHostletError(error))
    }
  }

  /** From an operation that has begun, perhaps in an earlier run of the agent. */
  async resume({ id, subject, ended }: LocalOperation): Promise<void> {
    const { stop } = this.#options
    const { outcome } = await untilAborted(ended, stop)
    if (subject === undefined) return
    const removed = outcome === 'done' ? await this.#prune(subject) : undefined
    await this.#tell(id, subject.uuid, removed)
  }

  /** What only waits for better times is tried again soon; what is refused is a failed run, and told as one. */
  async #refused(plan: Plan, error: HostletError): Promise<void> {
    const { clock, log, records } = this.#options
    const { name: vm, uuid, schedule } = plan.vm
    if (error.advice === 'retry') {
      const retryMs = plan.postpone(clock)
      return log.warn({ vm, error, retryMs }, 'scheduled backup could not begin, trying again')
    }
    log.error({ vm, error }, 'scheduled backup was refused')
    const report = refusedReport({ vm, uuid, target: schedule.target }, error.toReport(), clock.now())
    records.keep(report, { held: true })
    await this.#tell(report.id, uuid, undefined)
  }

  /** Durable and sent, whatever retention came to. */
  async #tell(id: string, uuid: string, removed: string[] | undefined): Promise<void> {
    const { nextAt, onReports, records } = this.#options
    const next = await nextAt(uuid)
    records.release(id, { ...(next !== undefined && { nextAt: next }), ...(removed && { removed }) })
    onReports()
  }

  /** A repository that cannot be pruned now is pruned after the next good backup. */
  async #prune(subject: CommandSubject): Promise<string[] | undefined> {
    const { log, operations, stop, scheduleOf } = this.#options
    const { target, keep } = scheduleOf(subject.uuid) ?? {}
    if (target === undefined || keep === undefined) return undefined
    try {
      const request = { verb: pruneVerb, subject, arguments: { target, source: subject.uuid, keep } }
      const { ended } = await operations.begin(request)
      const { outcome, value, error } = await untilAborted(ended, stop)
      if (outcome === 'done') return (value as PruneResult).removed.slice(0, removedMax)
      log.warn({ vm: subject.vm, error }, 'old backups could not be removed')
    } catch (error) {
      if (stop.aborted) throw error
      log.warn({ vm: subject.vm, error: asHostletError(error) }, 'old backups could not be removed')
    }
    return undefined
  }
}

function subjectOf({ name, uuid, generation }: ScheduledVm): CommandSubject {
  return { vm: name, uuid, generation: Math.max(1, generation) }
}

function argumentsOf({ name, schedule }: ScheduledVm): Record<string, unknown> {
  const { target, quiesce, limits } = schedule
  return { vm: name, target, ...(quiesce && { quiesce }), ...(limits && { limits }) }
}
