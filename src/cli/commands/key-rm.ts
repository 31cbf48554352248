// hostlet key rm ID

import { apiPath } from '../api-client.ts'
import { clientCommand, examples } from '../client-command.ts'
import type { Define } from '../define.ts'

export const define: Define = (command, cli) => {
  examples(command.argument('<key>', 'id of the key, as "hostlet key ls" shows it'), 'hostlet key rm ID')
  clientCommand<object, readonly [string]>(command, cli, async ({ client, signal }, given) => {
    const [id] = given.arguments
    const answer = await client.ask({ method: 'DELETE', path: apiPath('keys', id), signal }, 'Removed')
    cli.show(answer, () => [`Key ${id} is revoked.`])
  })
}
