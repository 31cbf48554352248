// hostlet logs: the agent's lines in the journal of this machine, all of them or those about one VM or operation.

import { HostletError } from '../../errors.ts'
import { type Cli, Interrupted, type OutputFormat, outputOption } from '../cli.ts'
import { examples } from '../client-command.ts'
import type { Define } from '../define.ts'
import type { LogEntry } from '../logs/entry.ts'
import { follow, type JournalPage, type JournalQuery, newest } from '../logs/journal.ts'
import { entryJson, entryText } from '../logs/text.ts'
import { parseDuration, parseInteger } from '../quantities.ts'

interface Options {
  readonly follow?: boolean
  readonly since?: string
  readonly lines?: string
  readonly priority?: string
  readonly event?: string
  readonly unit: string
  readonly output: OutputFormat
}

/** Where neither --since nor -n says how far back. */
const linesDefault = 100
const linesMax = 100_000
const priorities = ['error', 'warning', 'info', 'debug'] as const

export const define: Define = (command, cli) => {
  command
    .argument('[subject]', 'name or UUID of a VM, or id of an operation; without one everything')
    .option('-f, --follow', 'go on with lines to come, until Ctrl-C')
    .option('--since <time>', 'how far back, such as 15m, 2h or "2026-11-28 06:00"')
    .option('-n, --lines <count>', `the newest so many (default: ${linesDefault}, or all with --since)`)
    .addOption(command.createOption('-p, --priority <level>', 'at least so bad').choices(priorities))
    .option('--event <id>', 'only lines of one event, such as command-refused; docs/logs.md lists them')
    .option('-u, --unit <unit>', 'another unit, such as hostlet-scheduler', 'hostlet')
    .addOption(outputOption(command))
  examples(
    command,
    'hostlet logs -f',
    'hostlet logs web-1 --since 2h',
    'hostlet logs 6f1c0b1e-… -f',
    'hostlet logs -p warning -n 20',
    'hostlet logs --event operation-failed -o json',
    'hostlet logs -u hostlet-scheduler'
  )
  command.addHelpText(
    'after',
    '\nReads the journal of this machine with journalctl: run it on the host, as one who may.'
  )
  command.action(async (subject: string | undefined, options: Options) => {
    cli.format = options.output
    const query = queryOf(subject, options, cli)
    await cli.interruptible(
      async (signal) => await show(cli, query, { follows: options.follow === true, signal })
    )
  })
}

function queryOf(subject: string | undefined, options: Options, cli: Cli): JournalQuery {
  const limits = { what: '--lines', minimum: 1, maximum: linesMax }
  if (!/^[A-Za-z0-9:_.@-]+$/.test(options.unit))
    throw new HostletError('E_BAD_REQUEST', `"${options.unit}" is not the name of a unit.`)
  const since = options.since === undefined ? undefined : sinceOf(options.since, cli.clock.now())
  const given = options.lines === undefined ? undefined : parseInteger(options.lines, limits)
  return {
    subject,
    event: options.event,
    unit: options.unit,
    priority: options.priority === 'error' ? 'err' : options.priority,
    since,
    count: given ?? (since === undefined ? linesDefault : undefined)
  }
}

/** A duration as our other commands take it; anything else as journalctl does. */
function sinceOf(text: string, nowMs: number): string {
  if (!/^\d+(\.\d+)?[a-z]/.test(text)) return text
  return `@${Math.floor((nowMs - parseDuration(text)) / 1_000)}`
}

interface Way {
  readonly follows: boolean
  readonly signal: AbortSignal
}

async function show(cli: Cli, query: JournalQuery, { follows, signal }: Way): Promise<void> {
  const print = (entry: LogEntry) =>
    cli.print(cli.format === 'json' ? entryJson(entry) : entryText(entry, cli))
  const page = await newest(query, signal)
  for (const entry of page.entries) print(entry)
  if (page.entries.length === 0 && !follows) tellNothing(cli, query, page)
  if (!follows) return
  try {
    await follow(query, { cursor: page.cursor, signal, onEntry: print })
  } catch (error) {
    // Ctrl-C is how one leaves.
    if (!(error instanceof Interrupted)) throw error
  }
}

function tellNothing(cli: Cli, query: JournalQuery, { cursor, hint }: JournalPage): void {
  const about = query.subject === undefined ? '' : ` about ${query.subject}`
  if (hint !== '') cli.note(hint)
  cli.note(
    cursor === undefined
      ? `The journal has no line of unit ${query.unit}${query.since === undefined ? '' : ' from that time on'}. Is it the right machine, and does the unit run ("systemctl status ${query.unit}")?`
      : `No line${about} among those of unit ${query.unit}. Is it the right host ("hostlet vm ls", "hostlet op show ID")?`
  )
}
