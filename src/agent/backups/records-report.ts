// What became of one run of vm.backup, as it is told to the scheduler.

import { randomUUID } from 'node:crypto'
import type { ErrorReport } from '../../errors.ts'
import type { BackupReport, VmBackupResult } from '../../protocol/backup.ts'
import type { CommandResult } from '../../protocol/command.ts'
import type { JournalEntry } from '../operations/journal.ts'
import { boundedReport } from '../operations/result.ts'

export const backupVerb = 'vm.backup'

/** Undefined for operations of other verbs, and for a backup of which is not known which VM it was of. */
export function reportOf(
  { id, claims, origin }: Pick<JournalEntry, 'id' | 'claims' | 'origin'>,
  result: CommandResult
): BackupReport | undefined {
  const { subject, arguments: args } = claims
  if (claims.verb !== backupVerb) return undefined
  const { startedAt, finishedAt, error } = result
  const frame = { id, origin, startedAt, finishedAt }
  if (result.outcome === 'done') {
    // The dispatcher has held the result to its verb's schema.
    const { record } = result.value as VmBackupResult
    const { vm, uuid, target } = record
    return { ...frame, vm, uuid, target, record }
  }
  if (subject === undefined || typeof args.target !== 'string') return undefined
  const { vm, uuid } = subject
  return { ...frame, vm, uuid, target: args.target, ...(error && { error }) }
}

/** A run that was refused before it was an operation: it is told all the same. */
export function refusedReport(
  about: Pick<BackupReport, 'vm' | 'uuid' | 'target'>,
  error: ErrorReport,
  now: number
): BackupReport {
  const frame = { ...about, id: randomUUID(), origin: 'schedule', startedAt: now, finishedAt: now } as const
  return { ...frame, error: boundedReport(error) }
}
