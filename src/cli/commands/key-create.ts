// hostlet key create TIER

import { clientCommand, examples } from '../client-command.ts'
import { tellCreatedKey } from '../created-key.ts'
import type { Define } from '../define.ts'
import { parseDuration } from '../quantities.ts'

interface Options {
  readonly note?: string
  readonly owner?: string
  readonly expires?: string
  readonly machine?: boolean
  readonly secondFactor?: boolean
}

export const define: Define = (command, cli) => {
  command
    .addArgument(
      command
        .createArgument('<tier>', 'what the key may do, each more than the one before')
        .choices(['read', 'manage', 'admin'])
    )
    .option('--owner <name>', 'whose it is')
    .option('--note <text>', 'what it is for')
    .option('--expires <duration>', 'how long it is good, such as 90d; without it until it is revoked')
    .option('--machine', 'for a program: it opens no session, and is never asked for a second factor')
    .option('--second-factor', 'good for nothing until its owner has set up a second factor')
  examples(
    command,
    'hostlet key create read --note dashboard --machine > dashboard.key',
    'hostlet key create admin --owner Ada --expires 90d --second-factor > ada.key'
  )
  clientCommand<Options, readonly [string]>(command, cli, async ({ client, signal }, given) => {
    const { note, owner, expires, machine, secondFactor } = given.options
    const body = {
      tier: given.arguments[0],
      ...(note !== undefined && { note }),
      ...(owner !== undefined && { owner }),
      ...(expires !== undefined && { ttlSeconds: Math.round(parseDuration(expires) / 1_000) }),
      ...(machine && { machine }),
      ...(secondFactor && { secondFactor })
    }
    const created = await client.ask({ method: 'POST', path: '/v1/keys', body, signal }, 'CreatedKey')
    tellCreatedKey(cli, created)
  })
}
