// hostlet host ls

import { clientCommand, examples } from '../client-command.ts'
import { hostColumns } from '../columns.ts'
import type { Define } from '../define.ts'
import { listing } from '../listing.ts'
import { labelsOf } from '../placement-options.ts'

interface Options {
  readonly label?: readonly string[]
}

export const define: Define = (command, cli) => {
  command.option(
    '-l, --label <label=value>',
    'only those with this label; may be repeated',
    (text, before) => [...((before as readonly string[] | undefined) ?? []), text]
  )
  examples(command, 'hostlet host ls', 'hostlet host ls -l region=eu', 'hostlet host ls -o json')
  clientCommand<Options>(command, cli, async ({ client, signal }, { options }) => {
    const wanted = Object.entries(labelsOf(options.label ?? [], '--label'))
    const query = wanted.length === 0 ? {} : { label: wanted.map((pair) => pair.join('=')).join(',') }
    const answer = await client.ask({ method: 'GET', path: '/v1/hosts', query, signal }, 'HostList')
    cli.show(answer, () =>
      listing(cli, hostColumns(cli.clock.now()), answer.hosts, {
        none:
          wanted.length === 0
            ? 'No host has joined yet. Make a token with: hostlet host token'
            : 'No host has these labels. Set one with: hostlet host label HOST LABEL=VALUE',
        more: answer.more
      })
    )
  })
}
