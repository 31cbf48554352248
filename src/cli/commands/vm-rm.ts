// hostlet vm rm NAME

import { createInterface } from 'node:readline/promises'
import { HostletError } from '../../errors.ts'
import { apiPath } from '../api-client.ts'
import { clientCommand, examples } from '../client-command.ts'
import type { Define } from '../commands.ts'
import { follow } from '../follow.ts'
import { plain } from '../table.ts'

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
    if (!options.yes && process.stdin.isTTY && cli.noteTerminal) await confirm(name, session.signal)
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

async function confirm(name: string, signal: AbortSignal): Promise<void> {
  const lines = createInterface({ input: process.stdin, output: process.stderr })
  try {
    const answer = await lines.question(`Remove VM ${plain(name)} and all its disks? [y/N] `, { signal })
    if (/^y(es)?$/i.test(answer.trim())) return
  } finally {
    lines.close()
  }
  throw new HostletError('E_CANCELLED', `VM ${name} was left alone.`)
}
