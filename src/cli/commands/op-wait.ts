// hostlet op wait ID

import { apiPath } from '../api-client.ts'
import { clientCommand, examples } from '../client-command.ts'
import type { Define } from '../define.ts'
import { follow, title } from '../follow.ts'

export const define: Define = (command, cli) => {
  command.argument('<operation>', 'id of the operation')
  examples(command, 'hostlet op wait ID', 'hostlet op wait ID -o json')
  command.addHelpText(
    'after',
    '\nExits as the operation ended: 0 when done, otherwise with the status of its error.'
  )
  clientCommand<object, readonly [string]>(command, cli, async (session, given) => {
    const path = apiPath('operations', given.arguments[0])
    const request = { method: 'GET', path, signal: session.signal } as const
    const { operation } = await session.client.ask(request, 'OperationReply')
    await follow(session, operation, { wait: true, done: (ended) => `${title(ended)}: done.` })
  })
}
