// hostlet audit ls: what this host was told to do, by whom, and what came of it; or what the scheduler was asked.

import { trailDirectory } from '../../agent/trail/segments.ts'
import { HostletError } from '../../errors.ts'
import type { ChainEntry } from '../../lib/chain.ts'
import { callColumns, hostColumns, type Shown, wanted } from '../audit/entries.ts'
import { newestOfTrail, waitingOfTrail } from '../audit/read-trail.ts'
import { type AuditOptions, auditOptions, schedulerOf, stateDirectoryOf } from '../audit/source.ts'
import type { Cli } from '../cli.ts'
import { examples } from '../client-command.ts'
import type { Define } from '../define.ts'
import { listing } from '../listing.ts'
import { parseInteger, parseMoment } from '../quantities.ts'

interface Options extends AuditOptions {
  readonly since?: string
  readonly kind?: string
  readonly vm?: string
  readonly command?: string
  readonly key?: string
  readonly refused?: boolean
  readonly failed?: boolean
  readonly number: string
  readonly limit?: string
}

export const define: Define = (command, cli) => {
  auditOptions(command, 'the calls of the scheduler’s API instead of this host’s trail')
    .option('--since <time>', 'not older than a duration (2h) or a moment (2026-11-27T08:00:00Z)')
    .option('--kind <kind>', 'only of one kind, or of all below it: command, command.refused, local')
    .option('--vm <vm>', 'only about one VM')
    .option('--command <id>', 'only about one command')
    .option('--key <id>', 'with --scheduler: only calls with one API key')
    .option(
      '--refused',
      'with --scheduler: only calls of who may not: no good key, too low a tier, too often'
    )
    .option('--failed', 'with --scheduler: only calls that failed for another reason')
    .option('-n, --number <count>', 'the newest so many', '100')
    .option('--limit <count>', 'the same as --number')
  examples(
    command,
    'hostlet audit ls --since 24h --kind command      on a host, as root or as the agent’s user',
    'hostlet audit ls --scheduler --refused',
    'hostlet audit ls --vm web-1 -o json'
  )
  command.action(async (options: Options) => {
    cli.format = options.output
    const what = options.limit === undefined ? '--number' : '--limit'
    const limit = parseInteger(options.limit ?? options.number, { what, minimum: 1, maximum: 100_000 })
    const since = options.since === undefined ? undefined : parseMoment(options.since, cli.clock.now())
    const filter = { since, kind: options.kind, vm: options.vm, command: options.command }
    if (options.scheduler === undefined) {
      refuseOfCalls(options)
      const directory = trailDirectory(await stateDirectoryOf(options))
      const { entries, more } = newestOfTrail(directory, wanted(filter), limit)
      const waiting = waitingOfTrail(directory).filter(wanted(filter))
      show(cli, [...entries, ...waiting], more, hostColumns)
    } else {
      const { entries, more } = await callsOf(cli, options, { since, limit })
      show(cli, entries, more, callColumns)
    }
  })
}

/** Throws E_BAD_REQUEST for what a host's trail knows nothing of. */
function refuseOfCalls(options: Options): void {
  const given = (['key', 'refused', 'failed'] as const).filter((name) => options[name] !== undefined)
  if (given.length > 0)
    throw new HostletError(
      'E_BAD_REQUEST',
      `--${given[0]} is about calls of the scheduler’s API: add --scheduler.`
    )
}

/** Both together are all that failed. */
function failuresAsked({ refused, failed }: Options) {
  if (refused && failed) return { refused: 'true' }
  return { failure: refused ? 'refused' : failed ? 'other' : undefined }
}

function show(cli: Cli, entries: readonly Shown[], more: boolean, columns: typeof hostColumns): void {
  cli.show({ entries, more }, () => listing(cli, columns, entries, { none: 'There is no such entry.', more }))
}

async function callsOf(
  cli: Cli,
  options: Options,
  { since, limit }: { since: number | undefined; limit: number }
): Promise<{ entries: readonly Shown[]; more: boolean }> {
  using client = await schedulerOf(cli, options)
  const query = {
    ...{
      newest: 'true',
      limit: Math.min(limit, 1_000),
      sinceMs: since,
      kind: options.kind,
      key: options.key
    },
    ...{ object: options.vm, operation: options.command, ...failuresAsked(options) }
  }
  const answer = await cli.interruptible((signal) =>
    client.ask({ method: 'GET', path: '/v1/audit', query, signal }, 'AuditList')
  )
  return { entries: answer.entries as ChainEntry[], more: answer.more }
}
