// hostlet key ls

import { clientCommand, examples } from '../client-command.ts'
import { keyColumns } from '../columns.ts'
import type { Define } from '../define.ts'
import { listing } from '../listing.ts'

export const define: Define = (command, cli) => {
  examples(command, 'hostlet key ls')
  clientCommand(command, cli, async ({ client, signal }) => {
    const answer = await client.ask({ method: 'GET', path: '/v1/keys', signal }, 'KeyList')
    cli.show(answer, () =>
      listing(cli, keyColumns(cli.clock.now()), answer.keys, {
        none: 'There are no keys.',
        more: answer.more
      })
    )
  })
}
