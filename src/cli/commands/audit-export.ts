// hostlet audit export: the whole audit of this host, or of the scheduler's API, for a spreadsheet or another program.

import { open } from 'node:fs/promises'
import { trailDirectory } from '../../agent/trail/segments.ts'
import { HostletError } from '../../errors.ts'
import type { ChainEntry } from '../../lib/chain.ts'
import { csvRow, csvTitles } from '../../lib/csv.ts'
import { privateFileMode } from '../../lib/private-file.ts'
import type { ApiClient } from '../api-client.ts'
import { csvColumns, type Shown } from '../audit/entries.ts'
import { entriesOfTrail } from '../audit/read-trail.ts'
import { type AuditOptions, auditOptions, schedulerOf, stateDirectoryOf } from '../audit/source.ts'
import type { Cli } from '../cli.ts'
import { examples } from '../client-command.ts'
import type { Define } from '../define.ts'
import { parseMoment } from '../quantities.ts'

interface Options extends AuditOptions {
  readonly csv?: boolean
  readonly out?: string
  readonly since?: string
  readonly until?: string
}

const pageItems = 1_000
/** Text that is handed over at a time. */
const pieceCharacters = 64 * 1024

export const define: Define = (command, cli) => {
  auditOptions(command, 'the calls of the scheduler’s API instead of this host’s trail')
    .option('--csv', 'as CSV (RFC 4180); a line of JSON an entry without it')
    .option('--since <time>', 'not older than a duration (2h) or a moment (2026-11-27T08:00:00Z)')
    .option('--until <time>', 'only before a moment, or so long ago')
    .option('--out <file>', 'write to a new file instead of the standard output')
  examples(
    command,
    'hostlet audit export --csv --out trail.csv       on a host, as root or as the agent’s user',
    'hostlet audit export --scheduler --csv > calls.csv',
    'hostlet audit export --scheduler --since 2026-11-01T00:00:00Z --until 2026-12-01T00:00:00Z'
  )
  command.addHelpText(
    'after',
    '\nCells that a spreadsheet would take for a formula begin with an apostrophe. Lines of JSON are the entries as they were written, byte for byte.'
  )
  command.action(async (options: Options) => {
    cli.format = options.output
    const range = rangeOf(options, cli.clock.now())
    const csv = options.csv === true
    await cli.interruptible(async (signal) => {
      if (options.scheduler === undefined) {
        const directory = trailDirectory(await stateDirectoryOf(options))
        await write(cli, options, trailTexts(directory, csv, range))
      } else {
        using client = await schedulerOf(cli, options)
        await write(cli, options, callTexts(client, { csv, range, signal }))
      }
    })
  })
}

interface Range {
  readonly since: number | undefined
  readonly until: number | undefined
}

/** Throws E_BAD_REQUEST where nothing can be in it. */
function rangeOf({ since, until }: Options, now: number): Range {
  const range = {
    since: since === undefined ? undefined : parseMoment(since, now),
    until: until === undefined ? undefined : parseMoment(until, now)
  }
  if ((range.since ?? Number.NEGATIVE_INFINITY) < (range.until ?? Number.POSITIVE_INFINITY)) return range
  throw new HostletError('E_BAD_REQUEST', '--since is not before --until: nothing lies between them.')
}

async function* trailTexts(
  directory: string,
  csv: boolean,
  { since = Number.NEGATIVE_INFINITY, until = Number.POSITIVE_INFINITY }: Range
): AsyncGenerator<string> {
  const columns = csvColumns('host')
  if (csv) yield csvTitles(columns)
  for (const { entry, line } of entriesOfTrail(directory))
    if (entry.at >= since && entry.at < until)
      yield csv ? csvRow(columns, entry) : `${line.bytes.toString('utf8')}\n`
}

async function* callTexts(
  client: ApiClient,
  { csv, range, signal }: { readonly csv: boolean; readonly range: Range; readonly signal: AbortSignal }
): AsyncGenerator<string> {
  const columns = csvColumns('scheduler')
  if (csv) yield csvTitles(columns)
  for (let after = 0; ; ) {
    const query = { after, limit: pageItems, sinceMs: range.since, untilMs: range.until }
    const page = await client.ask({ method: 'GET', path: '/v1/audit', query, signal }, 'AuditList')
    for (const entry of page.entries as ChainEntry[])
      yield csv ? csvRow<Shown>(columns, entry) : `${JSON.stringify(entry)}\n`
    if (!page.more) return
    after = page.last
  }
}

async function write(cli: Cli, { out }: Options, texts: AsyncGenerator<string>): Promise<void> {
  if (out === undefined) {
    for await (const piece of pieces(texts)) cli.write(piece)
    return
  }
  try {
    await using file = await open(out, 'wx', privateFileMode)
    for await (const piece of pieces(texts)) await file.writeFile(piece)
    await file.sync()
  } catch (cause) {
    if (cause instanceof HostletError) throw cause
    const code = String((cause as NodeJS.ErrnoException).code ?? 'unknown error')
    throw new HostletError('E_BAD_REQUEST', `${out} cannot be written (${code}). Name a new file.`, { cause })
  }
}

async function* pieces(texts: AsyncGenerator<string>): AsyncGenerator<string> {
  let piece = ''
  for await (const text of texts) {
    piece += text
    if (piece.length < pieceCharacters) continue
    yield piece
    piece = ''
  }
  if (piece !== '') yield piece
}
