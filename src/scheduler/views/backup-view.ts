// A backup as people and programs see it.

import type { BackupRunView, BackupScheduleView, BackupView } from '../../protocol/api.ts'
import type { BackupEntry, BackupRun } from '../store/backup-store.ts'
import { present } from './operation-view.ts'

export function backupView({ record, operation, origin, verification, removedAt }: BackupEntry): BackupView {
  return { ...record, ...present({ operation, origin, verification, removedAt }) }
}

export function runView(run: BackupRun): NonNullable<BackupScheduleView['lastRun']> {
  const { operation, target, origin, startedAt, finishedAt, nextAt, snapshot, error } = run
  return { operation, target, origin, startedAt, finishedAt, ...present({ nextAt, snapshot, error }) }
}

export function runOfVmView(run: BackupRun): BackupRunView {
  const { vm, uuid, host } = run
  return { vm, uuid, host, ...runView(run) }
}
