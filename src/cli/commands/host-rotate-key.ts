// hostlet host rotate-key HOST

import { apiPath } from '../api-client.ts'
import { clientCommand, examples } from '../client-command.ts'
import type { Define } from '../define.ts'
import { operate, operationOptions } from '../operate.ts'

export const define: Define = (command, cli) => {
  command.argument('<host>', 'id of the host')
  operationOptions(command)
  examples(command, 'hostlet host rotate-key kvm-1')
  clientCommand<{ wait: boolean }, readonly [string]>(command, cli, async (session, given) => {
    const [id] = given.arguments
    const path = apiPath('hosts', id, 'rotate-key')
    const request = { method: 'POST', path, body: {}, signal: session.signal } as const
    await operate(session, request, {
      options: given.options,
      done: ({ value }) =>
        `Host ${id} has key ${String(value?.now)} now; ${String(value?.rewrapped)} disk keys were wrapped anew.`
    })
  })
}
