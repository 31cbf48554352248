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

interface Options extends AuditOptions {
  readonly csv?: boolean
  readonly out?: string
}

const pageItems = 1_000
/** Text that is handed over at a time. */
const pieceCharacters = 64 * 1024

export const define: Define = (command, cli) => {
  auditOptions(command, 'the calls of the scheduler’s API instead of this host’s trail')
    .option('--csv', 'as CSV (RFC 4180); a line of JSON an entry without it')
    .option('--out <file>', 'write to a new file instead of the standard output')
  examples(
    command,
    'hostlet audit export --csv --out trail.csv       on a host, as root or as the agent’s user',
    'hostlet audit export --scheduler --csv > calls.csv'
  )
  command.addHelpText(
    'after',
    '\nCells that a spreadsheet would take for a formula begin with an apostrophe. Lines of JSON are the entries as they were written, byte for byte.'
  )
  command.action(async (options: Options) => {
    cli.format = options.output
    await cli.interruptible(async (signal) => {
      if (options.scheduler === undefined) {
        const directory = trailDirectory(await stateDirectoryOf(options))
        await write(cli, options, trailTexts(directory, options.csv === true))
      } else {
        using client = await schedulerOf(cli, options)
        await write(cli, options, callTexts(client, options.csv === true, signal))
      }
    })
  })
}

async function* trailTexts(directory: string, csv: boolean): AsyncGenerator<string> {
  const columns = csvColumns('host')
  if (csv) yield csvTitles(columns)
  for (const { entry, line } of entriesOfTrail(directory))
    yield csv ? csvRow(columns, entry) : `${line.bytes.toString('utf8')}\n`
}

async function* callTexts(client: ApiClient, csv: boolean, signal: AbortSignal): AsyncGenerator<string> {
  const columns = csvColumns('scheduler')
  if (csv) yield csvTitles(columns)
  for (let after = 0; ; ) {
    const query = { after, limit: pageItems }
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
