// hostlet backup find: a host looks what lies in a repository, and what was not known becomes known.

import type { OperationView } from '../../protocol/api.ts'
import { BackupListResult } from '../../protocol/backup.ts'
import { apiPath } from '../api-client.ts'
import { readResult } from '../backup/result.ts'
import { clientCommand, examples } from '../client-command.ts'
import type { Define } from '../define.ts'
import { operate, operationOptions } from '../operate.ts'
import { plain } from '../table.ts'

interface Options {
  readonly host: string
  readonly target: string
  readonly vm?: string
  readonly wait: boolean
}

export const define: Define = (command, cli) => {
  command
    .requiredOption('--host <host>', 'host that looks: one with the repository in its policy')
    .requiredOption('--target <repository>', 'repository by its name in the policy of the host')
    .option('--vm <uuid>', 'only the backups of one VM, by its UUID')
  command.addHelpText(
    'after',
    '\nFor backups that this scheduler does not know: of another fleet, or from before it was set up anew. The host needs a key that opens them, see unlockKeys of its policy. Afterwards they are in "hostlet backup ls".'
  )
  operationOptions(command)
  examples(command, 'hostlet backup find --host kvm-1 --target main')
  clientCommand<Options>(command, cli, async (session, { options }) => {
    const { host, target, vm } = options
    const request = {
      method: 'POST',
      path: apiPath('hosts', host, 'backups'),
      body: { target, ...(vm === undefined ? {} : { source: vm }) },
      signal: session.signal
    } as const
    const ended = await operate(session, request, {
      options,
      done: (one) => sentence(one, options)
    })
    if (ended === undefined) return
    const found = readResult(BackupListResult, ended)
    for (const { snapshot, uuid, fault } of found?.damaged ?? [])
      session.cli.note(plain(`cannot be used: backup ${snapshot} of VM ${uuid}: ${fault}`))
    for (const uuid of found?.locked ?? [])
      session.cli.note(plain(`no key of host ${host} opens the backups of VM ${uuid}`))
  })
}

function sentence(operation: OperationView, { host, target }: Options): string {
  const found = readResult(BackupListResult, operation)
  if (found === undefined) return `Host ${host} has looked into ${target}.`
  const vms = new Set(found.snapshots.map(({ uuid }) => uuid)).size
  const backups = `${found.snapshots.length} backup${found.snapshots.length === 1 ? '' : 's'}`
  return `Host ${host} finds ${backups} of ${vms} VM${vms === 1 ? '' : 's'} in ${target}. See: hostlet backup ls --target ${target}`
}
