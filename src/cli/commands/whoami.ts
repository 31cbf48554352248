// hostlet whoami: as whom the scheduler sees the one who asks, with what tier, until when.

import { clientCommand, examples } from '../client-command.ts'
import type { Define } from '../define.ts'
import { describeWho } from '../who-text.ts'

export const define: Define = (command, cli) => {
  examples(command, 'hostlet whoami')
  clientCommand(command, cli, async ({ client, signal }) => {
    const view = await client.ask({ method: 'GET', path: '/v1/session', signal }, 'SessionView')
    cli.show(view, () => describeWho(view, cli.colour))
  })
}
