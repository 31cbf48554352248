// hostlet events: what happened to VMs, and with --follow what happens.

import type { EventList } from '../../protocol/api.ts'
import { clientCommand, examples, type Session } from '../client-command.ts'
import { eventColumns } from '../columns.ts'
import type { Define } from '../define.ts'
import { listing } from '../listing.ts'
import { parseInteger } from '../quantities.ts'
import { renderTable } from '../table.ts'

interface Options {
  readonly vm?: string
  readonly after?: string
  readonly limit: string
  readonly follow?: boolean
}

const followIntervalMs = 1_000

export const define: Define = (command, cli) => {
  command
    .option('--vm <vm>', 'only those of one VM')
    .option(
      '--after <sequence>',
      'those after this sequence number, from the oldest on (default: the newest)'
    )
    .option('--limit <count>', 'at most so many', '100')
    .option('-f, --follow', 'go on with those to come, until Ctrl-C')
  examples(
    command,
    'hostlet events',
    'hostlet events --vm web-1 --follow',
    'hostlet events -o json --after 120'
  )
  clientCommand<Options>(command, cli, async (session, { options }) => {
    const limit = parseInteger(options.limit, { what: '--limit', minimum: 1, maximum: 1_000 })
    const first = await ask(session, { vm: options.vm, limit, ...startOf(options) })
    if (options.follow) return await followOn(session, first, { vm: options.vm, limit })
    cli.show(first, () =>
      listing(cli, eventColumns, first.events, { none: 'Nothing has happened yet.', more: first.more })
    )
  })
}

interface Question {
  readonly [name: string]: string | number | undefined
  readonly vm: string | undefined
  readonly limit: number
}

function startOf({ after }: Options): { after: number } | { newest: string } {
  if (after === undefined) return { newest: 'true' }
  const limits = { what: '--after', minimum: 0, maximum: Number.MAX_SAFE_INTEGER }
  return { after: parseInteger(after, limits) }
}

async function ask({ client, signal }: Session, query: Question): Promise<EventList> {
  return await client.ask({ method: 'GET', path: '/v1/events', query, signal }, 'EventList')
}

/** One JSON object a line with `-o json`, since a list never ends. */
async function followOn(session: Session, first: EventList, query: Question): Promise<void> {
  const { cli, signal } = session
  let page = first
  let titles = true
  for (;;) {
    if (cli.format === 'json') cli.print(...page.events.map((event) => JSON.stringify(event)))
    else if (page.events.length > 0) {
      const lines = renderTable(eventColumns, page.events, { width: cli.width, colour: cli.colour })
      cli.print(...lines.slice(titles ? 0 : 1))
      titles = false
    }
    // Of the newest ones `more` says that there were earlier ones, which nobody asked for.
    if (page === first || !page.more) await cli.clock.sleep(followIntervalMs, signal)
    page = await ask(session, { ...query, after: page.last })
  }
}
