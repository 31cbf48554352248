// hostlet status: on a host the state of its agent; elsewhere the scheduler and its fleet in numbers.

import type { StatusView } from '../../protocol/api.ts'
import { ApiClient } from '../api-client.ts'
import type { Cli } from '../cli.ts'
import { examples } from '../client-command.ts'
import { since } from '../columns.ts'
import { connectionOptions } from '../connection.ts'
import type { Define } from '../define.ts'
import { type AgentSocket, localOptions } from '../local/agent-socket.ts'
import { nearest, type SourceOptions } from '../local/source.ts'
import { renderFields } from '../table.ts'

export const define: Define = (command, cli) => {
  examples(
    command,
    'hostlet status                      on a host: its agent, also while the scheduler is away',
    'hostlet status --scheduler https://HOST:7443',
    'hostlet status -o json'
  )
  command.addHelpText(
    'after',
    '\nA host with an agent is asked through its socket, as root or in the group hostlet. Where there is none, or with\n--scheduler, the scheduler is asked.'
  )
  localOptions(connectionOptions(command)).action(async (options: SourceOptions) => {
    cli.format = options.output ?? 'table'
    const source = await nearest(cli, options)
    await cli.interruptible((signal) =>
      source instanceof ApiClient ? ofScheduler(cli, source, signal) : ofAgent(cli, source, signal)
    )
  })
}

async function ofAgent(cli: Cli, agent: AgentSocket, signal: AbortSignal): Promise<void> {
  const status = await agent.ask('/v1/status', 'LocalStatus', signal)
  const { statusLines } = await import('../local/status-text.ts')
  cli.show(status, () => statusLines(status, cli))
}

async function ofScheduler(cli: Cli, client: ApiClient, signal: AbortSignal): Promise<void> {
  using asked = client
  const status = await asked.ask({ method: 'GET', path: '/v1/status', signal }, 'StatusView')
  cli.show(status, () => renderFields(fields(status, asked.connection.url), cli.colour))
}

function fields(status: StatusView, url: URL): readonly (readonly [string, string])[] {
  const { hosts, vms, operations } = status
  return [
    ['scheduler', `${status.version} at ${url.origin}, up ${since(status.startedAt, status.now)}`],
    ['protocol', `hostlet.v${status.protocol}, trust domain ${status.trustDomain}`],
    ['CA', status.caHash],
    ['hosts', `${hosts.total}, ${hosts.connected} connected, ${hosts.away} away`],
    ['VMs', `${vms.total}, ${vms.running} running`],
    ['operations', `${operations.open} open`]
  ]
}
