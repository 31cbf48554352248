// hostlet vm audit NAME: each promise about a VM's isolation with yes, no or unknown, and why.

import type { OperationView } from '../../protocol/api.ts'
import { type AuditItem, VmAudit } from '../../protocol/audit.ts'
import { compile } from '../../protocol/validate.ts'
import { apiPath } from '../api-client.ts'
import type { Cli } from '../cli.ts'
import { clientCommand, examples } from '../client-command.ts'
import type { Define } from '../define.ts'
import { doctorExitCode } from '../exit-codes.ts'
import { follow, title, untilDone } from '../follow.ts'
import { type OperationOptions, waitOptions } from '../operate.ts'
import { type Column, renderTable, type Style } from '../table.ts'

const styles: Readonly<Record<AuditItem['answer'], Style>> = { yes: 'green', no: 'red', unknown: 'yellow' }

const columns: readonly Column<AuditItem>[] = [
  { title: 'ITEM', cell: ({ title }) => title },
  { title: 'ANSWER', cell: ({ answer }) => answer, style: ({ answer }) => styles[answer] },
  { title: 'WHY', cell: ({ why }) => why, shrinks: true, widthMin: 30 }
]

export const define: Define = (command, cli) => {
  command.argument('<vm>', 'name of the VM')
  waitOptions(command)
  examples(command, 'hostlet vm audit web-1', 'hostlet vm audit web-1 -o json')
  command.addHelpText('after', `\nEnds with ${doctorExitCode} when an answer is no.`)
  clientCommand<OperationOptions, readonly [string]>(command, cli, async (session, given) => {
    const path = apiPath('vms', given.arguments[0], 'audit')
    const { client, signal } = session
    const { operation } = await client.ask({ method: 'POST', path, body: {}, signal }, 'OperationReply')
    if (!given.options.wait) return void (await follow(session, operation, { wait: false, done: title }))
    const audit = auditOf(await untilDone(session, operation))
    cli.show(audit, () => lines(audit, cli))
    if (audit.items.some(({ answer }) => answer === 'no')) cli.exitStatus = doctorExitCode
  })
}

function auditOf(operation: OperationView): VmAudit {
  return compile(VmAudit, 'answer of vm.audit')(operation.value)
}

function lines({ vm, items }: VmAudit, cli: Cli): string[] {
  const count = (answer: AuditItem['answer']) => items.filter((item) => item.answer === answer).length
  return [
    ...renderTable(columns, items, { width: cli.width, colour: cli.colour }),
    '',
    `VM ${vm}: ${count('yes')} yes, ${count('no')} no, ${count('unknown')} unknown`
  ]
}
