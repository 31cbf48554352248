// hostlet vm backup NAME

import type { BackupRequest, OperationView } from '../../protocol/api.ts'
import { VmBackupResult } from '../../protocol/backup.ts'
import { readResult } from '../backup/result.ts'
import { examples } from '../client-command.ts'
import type { Define } from '../define.ts'
import { formatBytes, formatDuration, parseBytes } from '../quantities.ts'
import { vmAction } from '../vm-action.ts'

interface Options {
  readonly target: string
  readonly disks?: string
  readonly quiesce?: BackupRequest['quiesce']
  readonly full?: boolean
  readonly limit?: string
}

export const define: Define = (command, cli) => {
  command
    .requiredOption('--target <repository>', 'repository by its name in the policy of the VM’s host')
    .option('--disks <roles>', 'only these disks, such as root,data')
    .addOption(
      command
        .createOption('--quiesce <mode>', 'freeze: file systems at rest by the guest’s agent')
        .choices(['none', 'freeze'])
    )
    .option('--full', 'read everything and begin a new chain')
    .option('--limit <size>', 'at most so many bytes a second, such as 50M')
  vmAction<Options>(command, cli, { action: 'backup', body: bodyOf, done: taken })
  examples(
    command,
    'hostlet vm backup web-1 --target main',
    'hostlet vm backup db-1 --target main --quiesce freeze --limit 50M',
    'hostlet vm backup web-1 --target main --disks data --full --no-wait'
  )
}

function bodyOf({ target, disks, quiesce, full, limit }: Options): BackupRequest {
  return {
    target,
    // Roles are the scheduler's to judge, as names are.
    ...(disks === undefined ? {} : { disks: disks.split(',') as NonNullable<BackupRequest['disks']> }),
    ...(quiesce === undefined ? {} : { quiesce }),
    ...(full ? { mode: 'full' } : {}),
    ...(limit === undefined ? {} : { limits: { bytesPerSecond: parseBytes(limit) } })
  }
}

function taken(operation: OperationView): string {
  const result = readResult(VmBackupResult, operation)
  if (result === undefined) return `VM ${operation.vm ?? ''} is backed up.`
  const { record, freezeFault } = result
  const why = record.reason === undefined ? '' : ` (${record.reason})`
  const note = freezeFault === undefined ? '' : ` It could not be frozen: ${freezeFault}`
  return `VM ${record.vm}: ${record.kind} backup ${record.snapshot} in ${record.target}${why}: ${formatBytes(record.readBytes)} read, ${formatBytes(record.storedBytes)} stored, ${formatDuration(record.durationMs)}.${note}`
}
