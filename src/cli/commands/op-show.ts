// hostlet op show ID

import type { OperationView } from '../../protocol/api.ts'
import { apiPath } from '../api-client.ts'
import { clientCommand, examples } from '../client-command.ts'
import type { Define } from '../define.ts'
import { progressText } from '../follow.ts'
import { formatDuration, formatTime } from '../quantities.ts'
import { renderFields } from '../table.ts'

export const define: Define = (command, cli) => {
  examples(command.argument('<operation>', 'id of the operation'), 'hostlet op show ID')
  clientCommand<object, readonly [string]>(command, cli, async ({ client, signal }, given) => {
    const path = apiPath('operations', given.arguments[0])
    const answer = await client.ask({ method: 'GET', path, signal }, 'OperationReply')
    cli.show(answer, () => renderFields(fields(answer.operation), cli.colour))
  })
}

function fields(operation: OperationView): readonly (readonly [string, string | undefined])[] {
  const { startedAt, finishedAt, error, value } = operation
  return [
    ['operation', operation.id],
    ['verb', operation.verb],
    ['VM', operation.vm],
    ['host', operation.host],
    [
      'state',
      operation.awaits === undefined ? operation.state : `${operation.state} for an ${operation.awaits}`
    ],
    ['step', operation.step === undefined ? undefined : progressText(operation)],
    ['created', formatTime(operation.createdAt)],
    ['started', startedAt === undefined ? undefined : formatTime(startedAt)],
    [
      'took',
      startedAt === undefined || finishedAt === undefined ? undefined : formatDuration(finishedAt - startedAt)
    ],
    ['error', error && `${error.code}: ${error.message}`],
    ['result', value && JSON.stringify(value)],
    ['next', operation.next]
  ]
}
