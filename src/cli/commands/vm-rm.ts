// hostlet vm rm NAME

import { apiPath } from '../api-client.ts'
import { clientCommand, examples } from '../client-command.ts'
import { asks, confirm } from '../confirm.ts'
import type { Define } from '../define.ts'
import { follow } from '../follow.ts'

interface Options {
  readonly wait: boolean
  readonly yes?: boolean
}

export const define: Define = (command, cli) => {
  command
    .argument('<vm>', 'name of the VM')
    .option('-y, --yes', 'do not ask (it asks only on a terminal)')
    .option('--no-wait', 'do not follow the operation')
  examples(command, 'hostlet vm rm web-1', 'hostlet vm rm web-1 --yes')
  clientCommand<Options, readonly [string]>(command, cli, async (session, { options, arguments: [name] }) => {
    if (asks(session, options))
      await confirm(session, { text: `Remove VM ${name} and all its disks?`, leftAlone: `VM ${name}` })
    const request = { method: 'DELETE', path: apiPath('vms', name), signal: session.signal } as const
    const { operation } = await session.client.ask(request, 'OperationReply')
    await follow(session, operation, {
      wait: options.wait,
      done: ({ value }) =>
        value?.existed === false
          ? `There was nothing left of VM ${name}.`
          : `VM ${name} is gone, and its disks with it.`
    })
  })
}
