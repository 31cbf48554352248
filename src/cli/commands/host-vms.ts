// hostlet host vms HOST: what the host itself says now of its VMs, and of domains that are not ours.

import type { OperationView } from '../../protocol/api.ts'
import { apiPath } from '../api-client.ts'
import { clientCommand, examples } from '../client-command.ts'
import type { Define } from '../define.ts'
import { type OperationOptions, operate, operationOptions } from '../operate.ts'
import { renderTable } from '../table.ts'

interface Listed {
  readonly name?: unknown
  readonly state?: unknown
  readonly uuid?: unknown
  readonly address?: unknown
}

export const define: Define = (command, cli) => {
  operationOptions(command.argument('<host>', 'id of the host'))
  command.addHelpText(
    'after',
    '\nAsks the host, where "hostlet vm ls" tells what it last reported: for when the two should be compared.'
  )
  examples(command, 'hostlet host vms kvm-1', 'hostlet host vms kvm-1 -o json')
  clientCommand<OperationOptions, readonly [string]>(command, cli, async (session, given) => {
    const path = apiPath('hosts', given.arguments[0], 'vms')
    const request = { method: 'POST', path, body: {} } as const
    const ended = await operate(session, request, { options: given.options, done: summary })
    if (ended?.state !== 'done' || cli.format === 'json') return
    const columns = [
      { title: 'NAME', cell: ({ name }: Listed) => String(name) },
      { title: 'STATE', cell: ({ state }: Listed) => String(state) },
      { title: 'ADDRESS', cell: ({ address }: Listed) => String(address ?? '-') },
      { title: 'UUID', cell: ({ uuid }: Listed) => String(uuid) }
    ]
    for (const rows of [listed(ended, 'vms'), listed(ended, 'foreign')])
      if (rows.length > 0)
        cli.print('', ...renderTable(columns, rows, { width: cli.width, colour: cli.colour }))
  })
}

function listed({ value }: OperationView, key: 'foreign' | 'vms'): readonly Listed[] {
  const items = value?.[key]
  return Array.isArray(items) ? items : []
}

function summary(operation: OperationView): string {
  const [vms, foreign] = [listed(operation, 'vms').length, listed(operation, 'foreign').length]
  return `Host ${operation.host} has ${vms} ${vms === 1 ? 'VM' : 'VMs'} of hostlet, and ${foreign} other ${foreign === 1 ? 'domain' : 'domains'}.`
}
