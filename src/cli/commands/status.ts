// hostlet status: the scheduler and its fleet in numbers.

import type { StatusView } from '../../protocol/api.ts'
import { clientCommand, examples } from '../client-command.ts'
import { since } from '../columns.ts'
import type { Define } from '../define.ts'
import { renderFields } from '../table.ts'

export const define: Define = (command, cli) => {
  examples(command, 'hostlet status', 'hostlet status -o json')
  clientCommand(command, cli, async ({ client, signal }) => {
    const status = await client.ask({ method: 'GET', path: '/v1/status', signal }, 'StatusView')
    cli.show(status, () => renderFields(fields(status, client.connection.url), cli.colour))
  })
}

function fields(status: StatusView, url: URL): readonly (readonly [string, string])[] {
  const { hosts, vms, operations } = status
  return [
    ['scheduler', `${status.version} at ${url.origin}, up ${since(status.startedAt, status.now)}`],
    ['protocol', `hostlet.v${status.protocol}, trust domain ${status.trustDomain}`],
    ['CA', status.caHash],
    ['hosts', `${hosts.total}: ${hosts.connected} connected, ${hosts.away} away`],
    ['VMs', `${vms.total}: ${vms.running} running`],
    ['operations', `${operations.open} open`]
  ]
}
