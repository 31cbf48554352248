// hostlet vm forget NAME..., or all of one host: drops the records of VMs whose host is revoked.

import { HostletError } from '../../errors.ts'
import { apiPath } from '../api-client.ts'
import { clientCommand, examples, type Given, type Session } from '../client-command.ts'
import { asks, confirm } from '../confirm.ts'
import type { Define } from '../define.ts'

/** The API lists no more at a time; what is left takes another call. */
const listItemsMax = 1_000

interface Options {
  readonly host?: string
  readonly yes?: boolean
}

export const define: Define = (command, cli) => {
  command
    .argument('[vms...]', 'names of the VMs')
    .option('--host <host>', 'all VMs of this host instead')
    .option('-y, --yes', 'do not ask (it asks only on a terminal)')
  command.addHelpText(
    'after',
    '\nFor hosts that are gone for good: "hostlet host rm" first. Nothing is asked of the host: where it still lives its VMs run on.'
  )
  examples(command, 'hostlet vm forget web-1', 'hostlet vm forget --host kvm-1 --yes')
  clientCommand<Options, readonly [readonly string[]]>(command, cli, run, (given) => {
    if ((given.options.host === undefined) !== (given.arguments[0].length === 0)) return false
    throw new HostletError('E_BAD_REQUEST', 'give names of VMs, or --host with the id of one host.')
  })
}

async function run(
  session: Session,
  { options, arguments: [named] }: Given<Options, readonly [readonly string[]]>
): Promise<void> {
  const names = options.host === undefined ? named : await namesOn(session, options.host)
  const listed = `VM${names.length === 1 ? '' : 's'} ${names.join(', ')}`
  if (names.length > 0 && asks(session, options))
    await confirm(session, { text: `Forget ${listed}?`, leftAlone: listed })
  const { cli, client, signal } = session
  for (const name of names)
    await client.ask({ method: 'POST', path: apiPath('vms', name, 'forget'), body: {}, signal }, 'Removed')
  cli.show({ forgotten: names }, () =>
    names.length === 0 ? ['There was nothing to forget.'] : [`Forgotten: ${listed}.`]
  )
}

async function namesOn({ client, signal }: Session, host: string): Promise<readonly string[]> {
  const request = { method: 'GET', path: '/v1/vms', query: { host, limit: listItemsMax }, signal } as const
  const { vms } = await client.ask(request, 'VmList')
  return vms.map(({ name }) => name)
}
