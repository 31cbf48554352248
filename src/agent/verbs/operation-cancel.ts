// operation.cancel: ends an operation before its time, and has what it began undone.

import { HostletError } from '../../errors.ts'
import { OperationCancelParams, OperationCancelResult } from '../../protocol/command.ts'
import { defineVerb } from '../operations/verb.ts'
import type { VerbDocument } from './document.ts'

export const operationCancel = defineVerb<unknown>()({
  name: 'operation.cancel',
  summary: 'Cancels an operation that waits, or one that runs and can be cut short; what it began is undone.',
  lock: 'none',
  changes: false,
  priority: 'urgent',
  deadlineMs: 60_000,
  afterCrash: 'resume',
  params: OperationCancelParams,
  result: OperationCancelResult,
  steps: () => [],
  async outcome({ operation: id }, _host, { others, signal }) {
    if (others === undefined) throw new HostletError('E_INTERNAL', 'operation.cancel knows of no operations')
    return { operation: id, state: await others.cancel(id, signal) }
  }
})

export const document: VerbDocument = {
  errors: {
    E_NOT_FOUND: 'the host knows no such operation: it never came here, or ended long ago',
    E_UNSUPPORTED: 'it is under way, and its verb cannot be cut short'
  },
  crash:
    'The wish is on disk before it is answered: an agent that was killed then undoes the operation when it is back. Not journaled by itself: ask again when there was no answer.',
  remarks: [
    '`cancelling` says that the operation is being undone, or will never begin: its own result tells how that went, with E_CANCELLED. One that was about to end may still end as `done`.',
    '`done` and `failed` say that it had ended before; nothing happened.',
    'Before it has begun every operation can be cancelled. While they run, only those whose pages say so.'
  ],
  example: { operation: '7d5ec2a4-4e0c-4d0f-8a9b-2f1c6e0a9b11' }
}
