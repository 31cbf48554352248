// hostlet vm restore NAME: a VM made of a backup, or with --replace its disks put back.

import type { OperationView, RestoreRequest } from '../../protocol/api.ts'
import { VmRestoreResult } from '../../protocol/backup.ts'
import { freshnessTexts } from '../backup/columns.ts'
import { readResult } from '../backup/result.ts'
import { clientCommand, examples } from '../client-command.ts'
import { asks, confirm } from '../confirm.ts'
import type { Define } from '../define.ts'
import { newVmName } from '../new-vm-name.ts'
import { type OperationOptions, operate, operationOptions } from '../operate.ts'
import { declarePlacement, type PlacementOptions, wishOf } from '../placement-options.ts'
import { formatBytes, formatTime } from '../quantities.ts'

interface Options extends OperationOptions, PlacementOptions {
  readonly snapshot: string
  readonly target?: string
  readonly as?: string
  readonly host?: string
  readonly profile?: string
  readonly replace?: boolean
  /** False with `--no-start`. */
  readonly start: boolean
  readonly yes?: boolean
}

export const define: Define = (command, cli) => {
  command
    .argument('<vm>', 'the VM that was backed up: its name, or its UUID where several had the name')
    .option('--snapshot <backup>', 'which backup, as "hostlet backup ls" shows it', 'latest')
    .option('--as <name>', 'name of the VM that is made (default: that of the backed-up one)')
    .option('--target <repository>', 'repository, where the scheduler does not know it')
    .option('--host <host>', 'host to put it on (default: one that knows the repository and has room)')
    .option('--profile <profile>', 'isolation profile, instead of that of the backed-up VM')
    .option('--replace', 'put the disks into the VM that there is; what they hold now is lost')
    .option('--no-start', 'leave it off')
    .option('-y, --yes', 'do not ask before disks are replaced (it asks only on a terminal)')
  declarePlacement(command)
  operationOptions(command)
  examples(
    command,
    'hostlet vm restore web-1 --as web-1-old',
    'hostlet vm restore web-1 --snapshot 0199c0de-… --replace',
    'hostlet vm restore db-1 --host kvm-2 --no-start'
  )
  clientCommand<Options, readonly [string]>(
    command,
    cli,
    async (session, { options, arguments: [source] }) => {
      const name = options.as === undefined ? source : newVmName(options.as)
      if (options.replace && asks(session, options))
        await confirm(session, {
          text: `Replace the disks of VM ${name} by backup ${options.snapshot} of ${source}? What they hold now is lost.`,
          leftAlone: `VM ${name}`
        })
      const body = bodyOf(source, options)
      const request = { method: 'POST', path: '/v1/restores', body, signal: session.signal } as const
      await operate(session, request, {
        options,
        done: restored,
        isPlaced: options.host === undefined && options.replace !== true
      })
    }
  )
}

function bodyOf(source: string, options: Options): RestoreRequest {
  const { snapshot, target, as: name, host, profile, replace, start } = options
  const placement = wishOf(options)
  return {
    ...{ source, snapshot },
    ...(target === undefined ? {} : { target }),
    ...(name === undefined ? {} : { name }),
    ...(host === undefined ? {} : { host }),
    ...(placement === undefined ? {} : { placement }),
    ...(profile === undefined ? {} : { profile }),
    ...(replace ? { replace } : {}),
    ...(start ? {} : { start })
  }
}

function restored(operation: OperationView): string {
  const result = readResult(VmRestoreResult, operation)
  if (result === undefined) return `VM ${operation.vm ?? ''} is restored on host ${operation.host}.`
  const { vm, address, at, restoredBytes, freshness, notRestored } = result
  const missing =
    notRestored.length === 0
      ? ''
      : ` Not in the backup: ${notRestored.map((role) => `the ${role} disk`).join(', ')}.`
  const warning = freshness === 'known' ? '' : ` Beware: ${freshnessTexts[freshness]}.`
  return `VM ${vm.name} is as of ${formatTime(at)} on host ${operation.host}, ${vm.state}${vm.state === 'running' ? ` at ${address}` : ''} (${formatBytes(restoredBytes)} written).${missing}${warning}`
}
