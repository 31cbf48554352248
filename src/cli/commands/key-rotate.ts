// hostlet key rotate ID: a new key in place of one, which stays good for a while beside it.

import { apiPath } from '../api-client.ts'
import { clientCommand, examples } from '../client-command.ts'
import { tellCreatedKey } from '../created-key.ts'
import type { Define } from '../define.ts'
import { parseDuration } from '../quantities.ts'

interface Options {
  readonly overlap: string
  readonly expires?: string
}

export const define: Define = (command, cli) => {
  command
    .argument('<key>', 'id of the key, as "hostlet key ls" shows it')
    .option('--overlap <duration>', 'how long the old one stays good', '1d')
    .option('--expires <duration>', 'how long the new one is good; without it as long as the old one was')
  examples(
    command,
    'hostlet key rotate ID > new.key',
    'hostlet key rotate ID --overlap 0s > new.key      the old one is in wrong hands'
  )
  clientCommand<Options, readonly [string]>(command, cli, async ({ client, signal }, given) => {
    const [id] = given.arguments
    const { overlap, expires } = given.options
    const body = {
      overlapSeconds: Math.round(parseDuration(overlap) / 1_000),
      ...(expires !== undefined && { ttlSeconds: Math.round(parseDuration(expires) / 1_000) })
    }
    const path = apiPath('keys', id, 'rotate')
    tellCreatedKey(cli, await client.ask({ method: 'POST', path, body, signal }, 'CreatedKey'))
    cli.note(
      body.overlapSeconds === 0
        ? `Key ${id} is good for nothing any more.`
        : `Key ${id} is good for ${overlap} yet. End it before that: hostlet key rm ${id}`
    )
  })
}
