// hostlet vm repair NAME: has its host put a VM right where it is not as its records say.

import type { OperationView } from '../../protocol/api.ts'
import { VmRepairResult } from '../../protocol/drift.ts'
import { compile } from '../../protocol/validate.ts'
import { apiPath } from '../api-client.ts'
import type { Cli } from '../cli.ts'
import { clientCommand, examples } from '../client-command.ts'
import type { Define } from '../define.ts'
import { driftLines } from '../drift-text.ts'
import { planExitCodes } from '../exit-codes.ts'
import { follow, title, untilDone } from '../follow.ts'
import { type OperationOptions, waitOptions } from '../operate.ts'

export const define: Define = (command, cli) => {
  command
    .argument('<vm>', 'name of the VM')
    .option('--dry-run', 'change nothing: say what would be put right')
  waitOptions(command)
  examples(command, 'hostlet vm repair web-1 --dry-run', 'hostlet vm repair web-1')
  clientCommand<OperationOptions, readonly [string]>(command, cli, async (session, given) => {
    const path = apiPath('vms', given.arguments[0], 'repair')
    const body = { dryRun: given.options.dryRun === true }
    const { client, signal } = session
    const { operation } = await client.ask({ method: 'POST', path, body, signal }, 'OperationReply')
    if (!given.options.wait) return void (await follow(session, operation, { wait: false, done: title }))
    const result = resultOf(await untilDone(session, operation))
    cli.show(result, () => lines(result, cli))
    if (result.dryRun && result.repaired.length > 0) cli.exitStatus = planExitCodes.changes
  })
}

function resultOf({ value }: OperationView): VmRepairResult {
  return compile(VmRepairResult, 'answer of vm.repair')(value)
}

function lines({ vm, dryRun, repaired, remaining }: VmRepairResult, cli: Cli): string[] {
  if (repaired.length + remaining.length === 0) return [`VM ${vm} is as its records say.`]
  return [
    ...(repaired.length === 0
      ? []
      : [dryRun ? 'Would be put right:' : 'Put right:', ...driftLines(repaired, cli), '']),
    ...(remaining.length === 0 ? [] : ['Different still:', ...driftLines(remaining, cli), '']),
    `VM ${vm}: ${repaired.length} ${dryRun ? 'would be' : 'were'} put right, ${remaining.length} remain`
  ]
}
