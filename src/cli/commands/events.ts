// hostlet events: what happened to VMs, and with --follow what happens.

import type { EventList } from '../../protocol/api.ts'
import { clientCommand, examples, type Session } from '../client-command.ts'
import { eventColumns } from '../columns.ts'
import type { Define } from '../commands.ts'
import { listing } from '../listing.ts'
import { parseInteger } from '../quantities.ts'
import { renderTable } from '../table.ts'

interface Options {
  readonly vm?: string
  readonly after: string
  readonly limit: string
  readonly follow?: boolean
}

const followIntervalMs = 1_000

export const define: Define = (command, cli) => {
  command
    .option('--vm <vm>', 'only those of one VM')
    .option('--after <sequence>', 'only those after this sequence number', '0')
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
    const after = parseInteger(options.after, {
      what: '--after',
      minimum: 0,
      maximum: Number.MAX_SAFE_INTEGER
    })
    const first = await ask(session, { vm: options.vm, after, limit })
    if (options.follow) return await followOn(session, first, { vm: options.vm, limit })
    cli.show(first, () =>
      listing(cli, eventColumns, first.events, { none: 'Nothing has happened yet.', more: first.more })
    )
  })
}

type Question = { vm: string | undefined; after: number; limit: number }

async function ask({ client, signal }: Session, query: Question): Promise<EventList> {
  return await client.ask({ method: 'GET', path: '/v1/events', query, signal }, 'EventList')
}

/** One JSON object a line with `-o json`, since a list never ends. */
async function followOn(session: Session, first: EventList, query: Omit<Question, 'after'>): Promise<void> {
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
    if (!page.more) await cli.clock.sleep(followIntervalMs, signal)
    page = await ask(session, { ...query, after: page.last })
  }
}
