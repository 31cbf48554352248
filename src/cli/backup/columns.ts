// How backups look as rows of a table, and one as fields, whoever told of them.

import type { BackupView } from '../../protocol/api.ts'
import { ago } from '../columns.ts'
import { formatBytes, formatDuration, formatTime } from '../quantities.ts'
import type { Column, Style } from '../table.ts'

const lookStyles: Readonly<Record<string, Style>> = { good: 'green', bad: 'red' }

export function backupColumns(nowMs: number): readonly Column<BackupView>[] {
  return [
    { title: 'TIME', cell: ({ at }) => formatTime(at) },
    { title: 'BACKUP', cell: ({ snapshot }) => snapshot },
    { title: 'VM', cell: ({ vm }) => vm },
    { title: 'TARGET', cell: ({ target }) => target, spare: 2 },
    { title: 'HOST', cell: ({ host }) => host, spare: 3 },
    { title: 'KIND', cell: kindText, style: ({ kind }) => (kind === 'fallback' ? 'yellow' : undefined) },
    { title: 'CONSISTENCY', cell: ({ consistency }) => consistency, spare: 4 },
    { title: 'SIZE', cell: (backup) => formatBytes(sizeOf(backup)), align: 'right' },
    { title: 'STORED', cell: ({ storedBytes }) => formatBytes(storedBytes), align: 'right' },
    { title: 'TOOK', cell: ({ durationMs }) => formatDuration(durationMs), align: 'right', spare: 5 },
    {
      title: 'VERIFIED',
      cell: (backup) => verifiedText(backup, nowMs),
      style: ({ verification }) => lookStyles[verification?.outcome ?? ''],
      shrinks: true
    }
  ]
}

export function backupFields(
  backup: BackupView,
  nowMs: number
): readonly (readonly [string, string | undefined])[] {
  const { verification, removedAt, disks } = backup
  return [
    ['backup', backup.snapshot],
    ['VM', `${backup.vm} (${backup.uuid})`],
    ['host', backup.host],
    ['target', backup.target],
    ['time', formatTime(backup.at)],
    ['took', formatDuration(backup.durationMs)],
    ['kind', backup.reason === undefined ? backup.kind : `${backup.kind}: ${backup.reason}`],
    ['consistency', consistencyTexts[backup.consistency]],
    ['number', String(backup.sequence)],
    ['previous', backup.previous ?? undefined],
    ...disks.map(
      ({ role, sizeBytes, allocatedBytes }) =>
        [`${role} disk`, `${formatBytes(sizeBytes)}, ${formatBytes(allocatedBytes)} of it not empty`] as const
    ),
    ['read', formatBytes(backup.readBytes)],
    ['stored', formatBytes(backup.storedBytes)],
    ['operation', backup.operation],
    ['taken by', backup.origin],
    ['verified', verifiedText(backup, nowMs)],
    ['fault', verification?.fault],
    ['freshness', verification && freshnessTexts[verification.freshness]],
    ['removed', removedAt === undefined ? undefined : formatTime(removedAt)]
  ]
}

const consistencyTexts: Readonly<Record<BackupView['consistency'], string>> = {
  crash: 'as after a power cut',
  frozen: 'file systems at rest',
  stopped: 'the VM was off'
}

export const freshnessTexts = {
  known: 'the newest backup that is known is there',
  unverifiable: 'nobody knows whether newer backups are missing',
  'rolled-back': 'the repository was rolled back: a newer backup that is known is not there'
} as const

/** `removed` first: it can be restored no more. */
function kindText({ kind, removedAt }: BackupView): string {
  return removedAt === undefined ? kind : `${kind}, removed`
}

function sizeOf({ disks }: BackupView): number {
  return disks.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0)
}

/** `good 3h ago, booted`, `bad 2d ago`, `never`. */
export function verifiedText({ verification }: Pick<BackupView, 'verification'>, nowMs: number): string {
  if (verification === undefined) return 'never'
  return `${verification.outcome} ${ago(verification.at, nowMs)}${verification.booted ? ', booted' : ''}`
}
