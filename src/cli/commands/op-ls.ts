// hostlet op ls

import { clientCommand, examples } from '../client-command.ts'
import { operationColumns } from '../columns.ts'
import type { Define } from '../define.ts'
import { listing } from '../listing.ts'
import { parseInteger } from '../quantities.ts'

interface Options {
  readonly vm?: string
  readonly host?: string
  readonly state?: string
  readonly all?: boolean
  readonly limit: string
}

export const define: Define = (command, cli) => {
  command
    .option('--vm <vm>', 'only those on one VM')
    .option('--host <host>', 'only those on one host')
    .option('--state <state>', 'only those that are waiting, sent, running, done, failed or expired')
    .option('-a, --all', 'those too that only look: dry runs, audits, states')
    .option('--limit <count>', 'at most so many', '50')
  examples(command, 'hostlet op ls', 'hostlet op ls --vm web-1', 'hostlet op ls --state running')
  clientCommand<Options>(command, cli, async ({ client, signal }, { options }) => {
    const limit = parseInteger(options.limit, { what: '--limit', minimum: 1, maximum: 1_000 })
    const { vm, host, state, all } = options
    const query = { vm, host, state, limit, looks: all ? undefined : 'false' }
    const answer = await client.ask({ method: 'GET', path: '/v1/operations', query, signal }, 'OperationList')
    cli.show(answer, () =>
      listing(cli, operationColumns(cli.clock.now()), answer.operations, {
        none: all
          ? 'There are no such operations.'
          : 'There are no such operations; --all has those too that only look.',
        more: answer.more
      })
    )
  })
}
