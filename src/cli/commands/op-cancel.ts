// hostlet op cancel ID

import { apiPath } from '../api-client.ts'
import { clientCommand, examples } from '../client-command.ts'
import type { Define } from '../define.ts'
import { follow, title } from '../follow.ts'
import { waitOptions } from '../operate.ts'

const states: Readonly<Record<string, string>> = {
  cancelling: 'is being undone; follow it with "hostlet op wait',
  done: 'had ended before: it is done. See "hostlet op show',
  failed: 'had ended before: it failed. See "hostlet op show'
}

export const define: Define = (command, cli) => {
  command.argument('<operation>', 'id of the operation')
  waitOptions(command)
  examples(command, 'hostlet op cancel ID')
  clientCommand<{ wait: boolean }, readonly [string]>(command, cli, async (session, given) => {
    const [id] = given.arguments
    const request = {
      method: 'POST',
      path: apiPath('operations', id, 'cancel'),
      body: {},
      signal: session.signal
    } as const
    const { operation } = await session.client.ask(request, 'OperationReply')
    // Its host had not got it: it has ended right here.
    if (operation.id === id)
      return cli.show({ operation }, () => [`${title(operation)} was cancelled: nothing was done.`])
    await follow(session, operation, {
      wait: given.options.wait,
      done: ({ value }) =>
        `Operation ${id} ${states[String(value?.state)] ?? 'is cancelled. See "hostlet op show'} ${id}".`
    })
  })
}
