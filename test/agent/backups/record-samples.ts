// Reports of backups as runs leave them, for tests of what becomes of them.

import { randomUUID } from 'node:crypto'
import type { BackupReport } from '../../../src/protocol/backup.ts'

export const vmUuid = '0b54e6f2-6b53-4a3e-9d1c-0123456789ab'

export function reportOf(options: { good?: boolean; startedAt?: number; uuid?: string; vm?: string } = {}) {
  const { good = true, startedAt = 1_000, uuid = vmUuid, vm = 'web-1' } = options
  const frame = { id: randomUUID(), vm, uuid, target: 'vault', origin: 'schedule', startedAt } as const
  const finishedAt = startedAt + 500
  const report: BackupReport = good
    ? { ...frame, finishedAt, record: recordOf(frame) }
    : { ...frame, finishedAt, error: { code: 'E_UNAVAILABLE', message: 'the repository is away' } }
  return report
}

export function recordOf({ vm, uuid, startedAt }: { vm: string; uuid: string; startedAt: number }) {
  const record: BackupReport['record'] = {
    snapshot: randomUUID(),
    target: 'vault',
    vm,
    uuid,
    host: 'host-1',
    sequence: 1,
    previous: null,
    kind: 'full',
    consistency: 'crash',
    at: startedAt,
    durationMs: 500,
    disks: [{ role: 'root', sizeBytes: 1_024, allocatedBytes: 512 }],
    readBytes: 512,
    storedBytes: 256
  }
  return record
}
