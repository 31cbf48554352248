// hostlet vm ls

import { clientCommand, examples } from '../client-command.ts'
import { vmColumns } from '../columns.ts'
import type { Define } from '../define.ts'
import { listing } from '../listing.ts'

export const define: Define = (command, cli) => {
  command.option('--host <host>', 'only those of one host')
  examples(command, 'hostlet vm ls', 'hostlet vm ls --host kvm-1 -o json')
  clientCommand<{ host?: string }>(command, cli, async ({ client, signal }, { options }) => {
    const query = { host: options.host, limit: 1_000 }
    const answer = await client.ask({ method: 'GET', path: '/v1/vms', query, signal }, 'VmList')
    cli.show(answer, () =>
      listing(cli, vmColumns(cli.clock.now()), answer.vms, {
        none: 'There are no VMs. Make one with: hostlet vm create --help',
        more: answer.more
      })
    )
  })
}
