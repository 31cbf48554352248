// hostlet host drain HOST

import { apiPath } from '../api-client.ts'
import { clientCommand, examples } from '../client-command.ts'
import type { Define } from '../define.ts'
import { operate, operationOptions } from '../operate.ts'
import { parseDuration } from '../quantities.ts'

export const define: Define = (command, cli) => {
  command
    .argument('<host>', 'id of the host')
    .option('--wait-for <duration>', 'how long to wait for what runs (default: 24h)', parseDuration)
  operationOptions(command)
  examples(command, 'hostlet host drain kvm-1', 'hostlet host drain kvm-1 --wait-for 2h')
  command.addHelpText(
    'after',
    '\nVMs run on. The host stays drained, also over a restart, until "hostlet host resume". Stops and teardowns are still taken.'
  )
  clientCommand<{ wait: boolean; waitFor?: number }, readonly [string]>(
    command,
    cli,
    async (session, given) => {
      const [id] = given.arguments
      const { waitFor } = given.options
      const path = apiPath('hosts', id, 'drain')
      const body = waitFor === undefined ? {} : { waitMs: waitFor }
      const request = { method: 'POST', path, body, signal: session.signal } as const
      await operate(session, request, {
        options: given.options,
        done: ({ value }) =>
          value?.idle === true
            ? `Host ${id} does nothing any more and takes no new work. Have it go on with: hostlet host resume ${id}`
            : `Host ${id} was told to take work again before all of it had ended.`
      })
    }
  )
}
