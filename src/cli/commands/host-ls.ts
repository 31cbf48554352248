// hostlet host ls

import { clientCommand, examples } from '../client-command.ts'
import { hostColumns } from '../columns.ts'
import type { Define } from '../define.ts'
import { listing } from '../listing.ts'

export const define: Define = (command, cli) => {
  examples(command, 'hostlet host ls', 'hostlet host ls -o json')
  clientCommand(command, cli, async ({ client, signal }) => {
    const answer = await client.ask({ method: 'GET', path: '/v1/hosts', signal }, 'HostList')
    cli.show(answer, () =>
      listing(cli, hostColumns(cli.clock.now()), answer.hosts, {
        none: 'No host has joined yet. Make a token with: hostlet host token',
        more: answer.more
      })
    )
  })
}
