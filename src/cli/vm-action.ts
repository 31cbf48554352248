// Commands that do one thing to one VM: post the action, then follow its operation.

import type { Command } from 'commander'
import type { OperationView } from '../protocol/api.ts'
import { apiPath } from './api-client.ts'
import type { Cli } from './cli.ts'
import { clientCommand } from './client-command.ts'
import { type OperationOptions, operate, operationOptions } from './operate.ts'

export interface VmAction<Options> {
  /** Last segment of the path. */
  readonly action: string
  readonly body: (options: Options) => unknown
  readonly done: (operation: OperationView) => string
}

export function vmAction<Options>(command: Command, cli: Cli, action: VmAction<Options>): void {
  operationOptions(command.argument('<vm>', 'name of the VM'))
  clientCommand<Options & OperationOptions, readonly [string]>(command, cli, async (session, given) => {
    const path = apiPath('vms', given.arguments[0], action.action)
    const request = {
      method: 'POST',
      path,
      body: action.body(given.options),
      signal: session.signal
    } as const
    await operate(session, request, { options: given.options, done: action.done })
  })
}

/** ` at 10.83.0.7`, where the result tells it. */
export function addressText(operation: OperationView): string {
  const address = operation.value?.address
  return typeof address === 'string' ? ` at ${address}` : ''
}
