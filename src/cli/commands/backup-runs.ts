// hostlet backup runs: how backups went, by command and by schedule, the failed ones too.

import type { BackupRunView } from '../../protocol/api.ts'
import { clientCommand, examples } from '../client-command.ts'
import type { Define } from '../define.ts'
import { listing } from '../listing.ts'
import { formatDuration, formatTime, parseInteger } from '../quantities.ts'
import type { Column } from '../table.ts'

interface Options {
  readonly vm?: string
  readonly host?: string
  readonly target?: string
  readonly failed?: boolean
  readonly limit: string
}

export const define: Define = (command, cli) => {
  command
    .option('--vm <vm>', 'only those of one VM, by name or UUID, also of one that is gone')
    .option('--host <host>', 'only those on one host')
    .option('--target <repository>', 'only those to one repository, by its name')
    .option('--failed', 'only those that failed')
    .option('--limit <count>', 'at most so many', '50')
  examples(command, 'hostlet backup runs --failed', 'hostlet backup runs --vm web-1')
  clientCommand<Options>(command, cli, async ({ client, signal }, { options }) => {
    const { vm, host, target, failed } = options
    const limit = parseInteger(options.limit, { what: '--limit', minimum: 1, maximum: 1_000 })
    const query = { vm, host, target, failed: failed ? 'true' : undefined, limit }
    const answer = await client.ask(
      { method: 'GET', path: '/v1/backup-runs', query, signal },
      'BackupRunList'
    )
    cli.show(answer, () =>
      listing(cli, columns, answer.runs, {
        none: failed ? 'No such backup has failed.' : 'No such backup has run.',
        more: answer.more
      })
    )
  })
}

const columns: readonly Column<BackupRunView>[] = [
  { title: 'TIME', cell: ({ startedAt }) => formatTime(startedAt) },
  { title: 'VM', cell: ({ vm }) => vm },
  { title: 'TARGET', cell: ({ target }) => target },
  { title: 'HOST', cell: ({ host }) => host, spare: 2 },
  { title: 'BY', cell: ({ origin }) => origin, spare: 3 },
  {
    title: 'TOOK',
    cell: ({ startedAt, finishedAt }) => formatDuration(finishedAt - startedAt),
    align: 'right',
    spare: 4
  },
  {
    title: 'BACKUP OR ERROR',
    cell: ({ snapshot, error }) =>
      error === undefined ? (snapshot ?? '-') : `${error.code}: ${error.message}`,
    style: ({ error }) => (error === undefined ? undefined : 'red'),
    shrinks: true
  }
]
