// hostlet host token: makes a token with which one host may join; lists and revokes them.

import { apiPath } from '../api-client.ts'
import { clientCommand, examples, type Session } from '../client-command.ts'
import { tokenColumns } from '../columns.ts'
import type { Define } from '../define.ts'
import { listing } from '../listing.ts'
import { formatTime, parseDuration } from '../quantities.ts'

interface Options {
  readonly ttl?: string
  readonly note?: string
  readonly list?: boolean
  readonly revoke?: string
}

export const define: Define = (command, cli) => {
  command
    .option('--ttl <duration>', 'how long the token may be used (default: 1h)')
    .option('--note <text>', 'what it is for')
    .option('--list', 'list the tokens instead')
    .option('--revoke <id>', 'revoke a token instead')
  examples(
    command,
    'hostlet host token --ttl 15m --note "rack 7"',
    'hostlet host token --list',
    'hostlet host token --revoke ID'
  )
  clientCommand<Options>(command, cli, async (session, { options }) => {
    if (options.list) return await list(session)
    if (options.revoke !== undefined) return await revoke(session, options.revoke)
    await create(session, options)
  })
}

async function create({ cli, client, signal }: Session, options: Options): Promise<void> {
  const body = {
    ...(options.ttl === undefined ? {} : { ttlSeconds: Math.round(parseDuration(options.ttl) / 1_000) }),
    ...(options.note === undefined ? {} : { note: options.note })
  }
  const token = await client.ask({ method: 'POST', path: '/v1/tokens', body, signal }, 'CreatedToken')
  cli.show(token, () => {
    cli.note(`Run this on the new host before ${formatTime(token.expiresAt)}; it works once:`)
    return [token.command]
  })
}

async function list({ cli, client, signal }: Session): Promise<void> {
  const answer = await client.ask({ method: 'GET', path: '/v1/tokens', signal }, 'TokenList')
  cli.show(answer, () =>
    listing(cli, tokenColumns(cli.clock.now()), answer.tokens, {
      none: 'There are no tokens.',
      more: answer.more
    })
  )
}

async function revoke({ cli, client, signal }: Session, id: string): Promise<void> {
  const answer = await client.ask({ method: 'DELETE', path: apiPath('tokens', id), signal }, 'Removed')
  cli.show(answer, () => [`Token ${id} is revoked.`])
}
