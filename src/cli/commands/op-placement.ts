// hostlet op placement ID: why the VM that an operation made stands on its host.

import { apiPath } from '../api-client.ts'
import { clientCommand, examples } from '../client-command.ts'
import type { Define } from '../define.ts'
import { placementLines } from '../placement-text.ts'

export const define: Define = (command, cli) => {
  examples(command.argument('<operation>', 'id of the operation'), 'hostlet op placement ID')
  clientCommand<object, readonly [string]>(command, cli, async ({ client, signal }, given) => {
    const path = `${apiPath('operations', given.arguments[0])}/placement`
    const answer = await client.ask({ method: 'GET', path, signal }, 'PlacementReply')
    cli.show(answer, () => placementLines(answer.placement, cli))
  })
}
