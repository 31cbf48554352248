// Joins the scheduler of backups and its records to the rest of the agent.

import { asHostletError } from '../../errors.ts'
import type { Clock } from '../../lib/clock.ts'
import type { Logger } from '../../lib/log.ts'
import type { CommandResult } from '../../protocol/command.ts'
import type { Hypervisor, VmRecord } from '../host/hypervisor.ts'
import type { Journal, JournalEntry } from '../operations/journal.ts'
import type { BackupRecords } from './records.ts'
import { reportOf } from './records-report.ts'
import { BackupScheduler, type BackupSchedulerOptions, type ScheduledVm } from './schedule.ts'

/** Where reports go out. */
interface Reports {
  tellBackups(): void
}

export function createSchedules(
  options: Pick<
    BackupSchedulerOptions,
    'readiness' | 'records' | 'operations' | 'runsAtOnceMax' | 'isPaused'
  > & {
    readonly hypervisor: Pick<Hypervisor, 'listVms'>
    readonly reports: Reports
    readonly clock: Clock
    readonly log: Logger
  }
): BackupScheduler {
  const { hypervisor, reports } = options
  return new BackupScheduler({
    ...options,
    vms: async (wait) => (await hypervisor.listVms(wait)).flatMap(scheduledVm),
    onReports: () => reports.tellBackups()
  })
}

/** One that was torn down and is only kept is backed up no more. */
function scheduledVm({ specification, generation, backupSchedule, retained }: VmRecord): ScheduledVm[] {
  const { name, uuid } = specification
  return backupSchedule === undefined || retained !== undefined
    ? []
    : [{ name, uuid, generation, schedule: backupSchedule }]
}

/** Whether it was a backup. A scheduled one is told once it is complete: see the scheduler of backups. */
export function keepReport(records: BackupRecords, entry: JournalEntry, result: CommandResult): boolean {
  const report = reportOf(entry, result)
  if (report === undefined) return false
  records.keep(report, { held: entry.origin === 'schedule' })
  return true
}

/** As with results: what cannot be recorded now is told and acknowledged again. What waits behind it is told next. */
export function acknowledgeBackups(
  operations: readonly string[],
  {
    records,
    reports,
    log
  }: { readonly records: BackupRecords; readonly reports: Reports; readonly log: Logger }
): void {
  try {
    records.acknowledge(operations)
    reports.tellBackups()
  } catch (error) {
    log.warn({ error: asHostletError(error) }, 'acknowledgement of backups could not be recorded')
  }
}

/** What is forgotten of VMs that are gone, in both. */
export function prunedTogether(
  journal: Pick<Journal, 'prune'>,
  records: Pick<BackupRecords, 'prune'>
): Pick<Journal, 'prune'> {
  return {
    prune: (living) => {
      journal.prune(living)
      records.prune(living)
    }
  }
}
