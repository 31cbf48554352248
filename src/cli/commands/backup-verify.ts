// hostlet backup verify SNAPSHOT: every block of it, on a host, or with --repository from here.

import { HostletError } from '../../errors.ts'
import type { OperationView } from '../../protocol/api.ts'
import { BackupVerifyResult, type freshnesses } from '../../protocol/backup.ts'
import { apiPath } from '../api-client.ts'
import { freshnessTexts } from '../backup/columns.ts'
import { backupCommand, type Direct } from '../backup/command.ts'
import { backupId } from '../backup/latest.ts'
import { ProgressLine } from '../backup/progress.ts'
import { readResult } from '../backup/result.ts'
import { examples, type Session } from '../client-command.ts'
import type { Define } from '../define.ts'
import { operate, operationOptions, refuseDryRunHere } from '../operate.ts'
import { plain } from '../table.ts'

interface Options {
  readonly vm?: string
  readonly boot?: boolean
  readonly host?: string
  readonly expect?: string
  readonly wait: boolean
  readonly dryRun?: boolean
}

type Freshness = (typeof freshnesses)[number]
const faultsShown = 16

export const define: Define = (command, cli) => {
  command
    .argument('<backup>', 'id of the backup, or latest with --vm')
    .option('--vm <vm>', 'the VM whose latest backup is meant, by name or UUID')
    .option('--boot', 'also start a throw-away VM from it on the host, without a network')
    .option('--host <host>', 'host that looks (default: the one that made the backup)')
    .option(
      '--expect <backup>',
      'in a repository: the newest backup that you know of, against one that was rolled back'
    )
  command.addHelpText('after', '\nExits with 1 when the backup is bad, and names what is wrong with it.')
  operationOptions(command)
  examples(
    command,
    'hostlet backup verify 0199c0de-…',
    'hostlet backup verify latest --vm web-1 --boot',
    'hostlet backup verify latest --vm web-1 --repository file:///mnt/backups --key recovery.jwk --ca ca.pem'
  )
  backupCommand<Options, readonly [string]>(command, cli, {
    scheduler: (session, { options, arguments: [id] }) => onHost(session, id, options),
    repository: (direct, { options, arguments: [id] }) => here(direct, id, options),
    check: ({ options }) => {
      refuseDryRunHere(options)
      if (options.repository !== undefined && options.boot)
        throw new HostletError(
          'E_UNSUPPORTED',
          '--boot needs a host: ask the scheduler, without --repository.'
        )
    }
  })
}

async function onHost(session: Session, given: string, options: Options): Promise<void> {
  const { boot, host } = options
  const id = await backupId(session, given, options.vm)
  const request = {
    method: 'POST',
    path: apiPath('backups', id, 'verify'),
    body: { ...(boot ? { boot } : {}), ...(host === undefined ? {} : { host }) },
    signal: session.signal
  } as const
  const ended = await operate(session, request, {
    options,
    done: sentence
  })
  const bad = ended && faultOf(ended)
  if (bad !== undefined) throw bad
}

/** The operation is done when it has looked; what it found may be bad all the same. */
function faultOf(operation: OperationView): HostletError | undefined {
  const result = readResult(BackupVerifyResult, operation)
  if (result === undefined || result.verification.outcome === 'good') return undefined
  const { snapshot, verification, faults } = result
  const why = verification.fault ?? faults[0] ?? freshnessTexts[verification.freshness]
  return new HostletError(
    'E_CORRUPT',
    `backup ${snapshot} is bad: ${why}${why.endsWith('.') ? '' : '.'} Take a whole new one with "hostlet vm backup NAME --target REPOSITORY --full", and look for what damages the repository.`,
    { details: { snapshot } }
  )
}

function sentence(operation: OperationView): string {
  const result = readResult(BackupVerifyResult, operation)
  if (result === undefined) return 'The backup was looked at.'
  const { snapshot, verification, blocks } = result
  const booted = verification.booted ? ' It boots.' : ''
  return `Backup ${snapshot} is ${verification.outcome}: ${blocks} blocks read.${booted}${beware(verification.freshness)}`
}

function beware(freshness: Freshness): string {
  return freshness === 'known' ? '' : ` Beware: ${freshnessTexts[freshness]}.`
}

async function here({ cli, repository, signal }: Direct, id: string, options: Options): Promise<void> {
  const { vault, snapshot } = await repository.find(id, options.vm)
  const [{ verifySnapshot }, { freshnessOf }] = await Promise.all([
    import('../../backup/read/verify.ts'),
    import('../../backup/vault/freshness.ts')
  ])
  const good = (await vault.snapshots({ signal })).filter((one) => one.state === 'good')
  const freshness = freshnessOf(good, options.expect === undefined ? [] : [{ snapshot: options.expect }])
  using progress = new ProgressLine(cli, `verify ${snapshot.body.vm.name}`)
  const report = await verifySnapshot({
    ...{ store: vault.store, vm: vault.vm, snapshot, signal },
    onProgress: (state) => progress.tell(state)
  })
  progress[Symbol.dispose]()
  const { signer } = snapshot
  cli.show({ snapshot: snapshot.id, uuid: vault.vm, ...report, freshness, signer }, () =>
    report.outcome === 'bad'
      ? report.faults.slice(0, faultsShown).map(({ message }) => plain(message))
      : [
          `Backup ${snapshot.id} of VM ${snapshot.body.vm.name} is good: ${report.goodBlocks} blocks read.${signerText(signer)}${beware(freshness)}`
        ]
  )
  if (report.outcome === 'bad')
    throw new HostletError(
      'E_CORRUPT',
      `backup ${snapshot.id} is bad: ${report.faultCount} fault${report.faultCount === 1 ? '' : 's'}, ${report.lostBlocks} blocks lost. Look for another one with "hostlet backup ls", and for what damages the repository.`
    )
  if (freshness === 'rolled-back')
    throw new HostletError(
      'E_CORRUPT',
      `${freshnessTexts['rolled-back']} (${options.expect ?? ''}). Look for who changed it before anything is restored.`
    )
}

function signerText(signer: 'trusted' | 'not-checked'): string {
  return signer === 'trusted'
    ? ' A host of the fleet signed it.'
    : ' Who signed it was not checked: give --ca.'
}
