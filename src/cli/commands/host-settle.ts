// hostlet host settle HOST: lets a host connect again that two machines had claimed to be.

import { apiPath } from '../api-client.ts'
import { clientCommand, examples } from '../client-command.ts'
import { asks, confirm } from '../confirm.ts'
import type { Define } from '../define.ts'

export const define: Define = (command, cli) => {
  command.argument('<host>', 'id of the host').option('-y, --yes', 'do not ask (it asks only on a terminal)')
  examples(command, 'hostlet host settle kvm-1', 'hostlet host show kvm-1   (says whether there is anything)')
  clientCommand<{ yes?: boolean }, readonly [string]>(command, cli, async (session, given) => {
    const { client, signal } = session
    const [id] = given.arguments
    if (asks(session, given.options))
      await confirm(session, {
        text: `Let ${id} connect again? Whichever machine comes first with its identity is the host then. The copy must be off or enrolled anew.`,
        leftAlone: `Host ${id}`
      })
    const path = apiPath('hosts', id, 'settle')
    const answer = await client.ask({ method: 'POST', path, body: {}, signal }, 'Settled')
    cli.show(answer, () => [`Host ${id} may connect again; it does so within a minute.`])
  })
}
