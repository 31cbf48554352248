// hostlet backup prune --vm NAME --keep-daily 7: on the host that makes the backups, or with --repository from here.

import type { OperationView } from '../../protocol/api.ts'
import { PruneResult, type Retention } from '../../protocol/backup.ts'
import { recordedOnHost } from '../audit/on-host.ts'
import { backupCommand, type Direct } from '../backup/command.ts'
import { withLock } from '../backup/lock.ts'
import { readResult } from '../backup/result.ts'
import {
  type RetentionOptions,
  requiredRetention,
  retentionOptions,
  retentionText
} from '../backup/retention.ts'
import { examples, type Session } from '../client-command.ts'
import { asks, confirm } from '../confirm.ts'
import type { Define } from '../define.ts'
import { planExitCodes } from '../exit-codes.ts'
import { operate, waitOptions } from '../operate.ts'
import { formatBytes } from '../quantities.ts'

interface Options extends RetentionOptions {
  readonly vm: string
  readonly target?: string
  readonly host?: string
  readonly dryRun?: boolean
  readonly removeDamaged?: boolean
  readonly yes?: boolean
  readonly wait: boolean
}

export const define: Define = (command, cli) => {
  command.requiredOption('--vm <vm>', 'the VM that was backed up, by name or UUID')
  retentionOptions(command)
    .option('--dry-run', 'only say what would go')
    .option(
      '--remove-damaged',
      'in a repository: also remove backups that cannot be read; one stops it otherwise'
    )
    .option('--target <repository>', 'repository by its name, where the VM has backups in several')
    .option('--host <host>', 'host that does it (default: the one that made the backups)')
    .option('-y, --yes', 'do not ask (it asks only on a terminal)')
  command.addHelpText(
    'after',
    '\nThe newest backup always stays. What another backup needs stays too: each restores on its own.'
  )
  waitOptions(command)
  examples(
    command,
    'hostlet backup prune --vm web-1 --keep-last 3 --keep-daily 7 --keep-monthly 12',
    'hostlet backup prune --vm web-1 --keep-daily 7 --dry-run',
    'hostlet backup prune --vm web-1 --keep-last 1 --repository file:///mnt/backups --key recovery.jwk --yes'
  )
  backupCommand<Options>(command, cli, {
    scheduler: (session, { options }) => onHost(session, options),
    repository: (direct, { options }) => here(direct, options),
    check: ({ options }) => void requiredRetention(options)
  })
}

async function onHost(session: Session, options: Options): Promise<void> {
  const { vm: source, target, host, dryRun } = options
  const keep = requiredRetention(options)
  await confirmed(session, options, keep)
  const body = {
    ...{ source, keep },
    ...(target === undefined ? {} : { target }),
    ...(host === undefined ? {} : { host }),
    ...(dryRun ? { dryRun } : {})
  }
  const request = { method: 'POST', path: '/v1/backups/prune', body, signal: session.signal } as const
  const ended = await operate(session, request, {
    options: { wait: options.wait },
    done: (operation) => pruned(operation, source)
  })
  // It has its own dry run, which the host reads the repository for.
  const removed = ended && dryRun ? readResult(PruneResult, ended)?.removed : undefined
  if (removed !== undefined && removed.length > 0) session.cli.exitStatus = planExitCodes.changes
}

async function confirmed(
  session: Pick<Session, 'cli' | 'signal'>,
  { vm, dryRun, ...options }: Options,
  keep: Retention
): Promise<void> {
  if (dryRun || !asks(session, options)) return
  await confirm(session, {
    text: `Remove the backups of VM ${vm} but ${retentionText(keep)}? They cannot be brought back.`,
    leftAlone: `Every backup of VM ${vm}`
  })
}

function pruned(operation: OperationView, vm: string): string {
  const result = readResult(PruneResult, operation)
  return result === undefined ? `The backups of VM ${vm} are pruned.` : sentence(result, vm)
}

function sentence({ kept, removed, freedBytes, dryRun }: PruneResult, vm: string): string {
  const what = `${removed.length} of ${removed.length + kept.length} backups of VM ${vm}`
  return dryRun
    ? `${what} would go, which would free ${formatBytes(freedBytes)}.`
    : `${what} are removed; ${formatBytes(freedBytes)} came free.`
}

async function here({ cli, repository, signal }: Direct, options: Options): Promise<void> {
  const keep = requiredRetention(options)
  const { vault } = await repository.onlyVault(options.vm)
  await confirmed({ cli, signal }, options, keep)
  const { prune } = await import('../../backup/prune/prune.ts')
  const dryRun = options.dryRun === true
  const pruning = () =>
    withLock({ cli, vault, what: 'hostlet backup prune', signal }, (held) =>
      prune({ vault, keep, dryRun, removeDamaged: options.removeDamaged === true, ...held })
    )
  const facts = { vm: options.vm, uuid: vault.vm, kept: retentionText(keep) }
  const result = await (dryRun ? pruning() : recordedOnHost(cli, { action: 'backup prune', facts }, pruning))
  const { kept, removed, freedBytes } = result
  const answer = { kept: [...kept], removed: [...removed], freedBytes, dryRun }
  cli.show(answer, () => [sentence(answer, options.vm)])
  if (dryRun && removed.length > 0) cli.exitStatus = planExitCodes.changes
}
