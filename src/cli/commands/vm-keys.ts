// hostlet vm keys [NAME]: the keys of disks that lie at the scheduler, wrapped; and whether it gives them out.

import type { Command } from 'commander'
import { HostletError } from '../../errors.ts'
import { type DiskKeyView, listItemsMax, type VmDiskKeys } from '../../protocol/api.ts'
import { apiPath } from '../api-client.ts'
import { clientCommand, examples, type Session } from '../client-command.ts'
import { ago } from '../columns.ts'
import type { Define } from '../define.ts'
import { listing } from '../listing.ts'
import { formatTime } from '../quantities.ts'
import type { Column } from '../table.ts'

interface Options {
  readonly host?: string
  readonly removed?: boolean
  readonly withhold?: boolean
  readonly release?: boolean
}

export const define: Define = (command, cli) => {
  declare(command)
  clientCommand<Options, readonly [string | undefined]>(
    command,
    cli,
    async (session, { options, arguments: [name] }) => {
      if (name === undefined) return listAll(session, options)
      if (options.withhold || options.release) await change(session, name, options)
      else await list(session, name, options)
    },
    ({ options, arguments: [name] }) => {
      const { withhold, release, host, removed } = options
      if ((withhold || release) && (name === undefined || host !== undefined || removed))
        throw new HostletError(
          'E_BAD_REQUEST',
          '--withhold and --release take the name of a VM and nothing else.'
        )
      if (withhold && release)
        throw new HostletError('E_BAD_REQUEST', 'give one of --withhold and --release.')
      if (name !== undefined && host !== undefined)
        throw new HostletError('E_BAD_REQUEST', 'give a VM or --host, not both.')
      return false
    }
  )
}

function declare(command: Command): void {
  command
    .argument('[vm]', 'name of the VM, or its UUID where it is gone')
    .option('--host <host>', 'those of one host')
    .option('--removed', 'also those that were destroyed')
    .option('--withhold', 'give out no key of the VM: with "keys: scheduler" it cannot be started any more')
    .option('--release', 'give them out again')
    .addHelpText(
      'after',
      '\nThe scheduler has them wrapped and can open none. RECOVERY names the recovery keys that open one; without any it is lost with its host. A VM that runs is not touched by --withhold.'
    )
  examples(
    command,
    'hostlet vm keys web-1',
    'hostlet vm keys --host kvm-1',
    'hostlet vm keys web-1 --withhold',
    'hostlet vm keys web-1 --release'
  )
}

async function listAll({ cli, client, signal }: Session, { host, removed }: Options): Promise<void> {
  const query = { host, removed: removed ? 'true' : undefined, limit: listItemsMax }
  const answer = await client.ask({ method: 'GET', path: '/v1/disk-keys', query, signal }, 'DiskKeyList')
  cli.show(answer, () =>
    listing(cli, columns(cli.clock.now()), answer.keys, {
      none: 'There are no keys: no host has told of a disk that is encrypted.',
      more: answer.more
    })
  )
}

async function list({ cli, client, signal }: Session, name: string, { removed }: Options): Promise<void> {
  const query = { removed: removed ? 'true' : undefined, limit: listItemsMax }
  const path = apiPath('vms', name, 'disk-keys')
  const answer = await client.ask({ method: 'GET', path, query, signal }, 'VmDiskKeys')
  cli.show(answer, () => {
    const { withheldAt, vm, keys, more } = answer
    if (withheldAt !== undefined)
      cli.note(
        `Keys of VM ${vm} are withheld since ${formatTime(withheldAt)}. Give them out with "hostlet vm keys ${vm} --release".`
      )
    return listing(cli, columns(cli.clock.now()), keys, { none: `There are no keys of VM ${vm}.`, more })
  })
}

async function change({ cli, client, signal }: Session, name: string, { withhold }: Options): Promise<void> {
  const path = apiPath('vms', name, 'disk-keys', withhold ? 'withhold' : 'release')
  const answer = await client.ask({ method: 'POST', path, body: {}, signal }, 'VmDiskKeys')
  cli.show(answer, () => [withhold ? withheldText(answer) : `Keys of VM ${answer.vm} are given out again.`])
}

function withheldText({ vm, keys }: VmDiskKeys): string {
  const ofHost = keys.find(({ place }) => place === 'host')
  if (ofHost !== undefined || keys.length === 0)
    return `Keys of VM ${vm} are withheld, but its host has keys of its own and can start it. It asks for none unless its configuration says "keys: scheduler".`
  return `Keys of VM ${vm} are withheld: it cannot be started any more. If it runs, it runs on: stop it with "hostlet vm stop ${vm}".`
}

function columns(nowMs: number): readonly Column<DiskKeyView>[] {
  return [
    { title: 'VM', cell: ({ vm }) => vm },
    { title: 'DISK', cell: ({ volume }) => volume },
    { title: 'KEY', cell: ({ id }) => id },
    { title: 'HOST', cell: ({ host }) => host, spare: 1 },
    { title: 'LIES AT', cell: ({ place }) => place },
    { title: 'STORED', cell: ({ storedAt }) => ago(storedAt, nowMs), align: 'right', spare: 2 },
    { title: 'GIVEN', cell: ({ grantedAt }) => ago(grantedAt, nowMs), align: 'right', spare: 3 },
    {
      title: 'RECOVERY',
      cell: recoveryText,
      style: ({ recipients, removedAt }) =>
        recipients.length === 0 && removedAt === undefined ? 'red' : undefined,
      shrinks: true
    }
  ]
}

function recoveryText({ recipients, removedAt }: DiskKeyView): string {
  if (removedAt !== undefined) return `destroyed ${formatTime(removedAt)}`
  return recipients.length === 0 ? 'none' : recipients.join(', ')
}
