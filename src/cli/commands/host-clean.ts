// hostlet host clean HOST: removes what VMs that are gone left there, or says what would go.

import type { OperationView } from '../../protocol/api.ts'
import { HostCleanResult, type OrphanItem } from '../../protocol/orphans.ts'
import { compile } from '../../protocol/validate.ts'
import { apiPath } from '../api-client.ts'
import type { Cli } from '../cli.ts'
import { clientCommand, examples } from '../client-command.ts'
import { asks, confirm } from '../confirm.ts'
import type { Define } from '../define.ts'
import { planExitCodes } from '../exit-codes.ts'
import { follow, title, untilDone } from '../follow.ts'
import { type OperationOptions, waitOptions } from '../operate.ts'
import { type Column, renderTable } from '../table.ts'

interface Options extends OperationOptions {
  readonly yes?: boolean
}

const columns: readonly Column<OrphanItem>[] = [
  { title: 'KIND', cell: ({ kind }) => kind },
  { title: 'NAME', cell: ({ name }) => name, shrinks: true, widthMin: 20 },
  { title: 'WHY', cell: ({ why }) => why, shrinks: true, widthMin: 30 }
]

export const define: Define = (command, cli) => {
  command
    .argument('<host>', 'id of the host')
    .option('--dry-run', 'remove nothing: say what would go and why, and what is left alone')
    .option('-y, --yes', 'do not ask (it asks only on a terminal)')
  waitOptions(command)
  examples(command, 'hostlet host clean kvm-1 --dry-run', 'hostlet host clean kvm-1')
  command.addHelpText(
    'after',
    '\nRemoves only what is provably left of VMs that are gone. To remove takes an admin key, to look does not.'
  )
  clientCommand<Options, readonly [string]>(command, cli, async (session, { options, arguments: [id] }) => {
    const dryRun = options.dryRun === true
    if (!dryRun && asks(session, options))
      await confirm(session, {
        text: `Remove from host ${id} what VMs that are gone left there? See what first with --dry-run.`,
        leftAlone: `Host ${id}`
      })
    const path = apiPath('hosts', id, 'clean')
    const request = { method: 'POST', path, body: { dryRun }, signal: session.signal } as const
    const { operation } = await session.client.ask(request, 'OperationReply')
    if (!options.wait) return void (await follow(session, operation, { wait: false, done: title }))
    const result = resultOf(await untilDone(session, operation))
    cli.show(result, () => lines(id, result, cli))
    if (dryRun && result.removed.length > 0) cli.exitStatus = planExitCodes.changes
  })
}

function resultOf({ value }: OperationView): HostCleanResult {
  return compile(HostCleanResult, 'answer of host.clean')(value)
}

function lines(id: string, { dryRun, removed, kept, failed }: HostCleanResult, cli: Cli): string[] {
  const section = (title: string, items: readonly OrphanItem[]) =>
    items.length === 0
      ? []
      : [`${title}:`, ...renderTable(columns, items, { width: cli.width, colour: cli.colour }), '']
  return [
    ...section(dryRun ? 'Would go' : 'Removed', removed),
    ...section('Could not be removed', failed),
    ...section('Left alone', kept),
    dryRun
      ? `Host ${id}: ${removed.length} would go, ${kept.length} would be left alone`
      : `Host ${id}: ${removed.length} removed, ${failed.length} could not be, ${kept.length} left alone`
  ]
}
