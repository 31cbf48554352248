// hostlet vm rm NAME: erases a VM, now or after some days, and says what is gone and what remains.

import { HostletError } from '../../errors.ts'
import type { OperationView } from '../../protocol/api.ts'
import { readEraseCertificate } from '../../scheduler/erasures.ts'
import { apiPath } from '../api-client.ts'
import { clientCommand, examples } from '../client-command.ts'
import { asks, confirm } from '../confirm.ts'
import type { Define } from '../define.ts'
import { eraseLines } from '../erase-text.ts'
import { type OperationOptions, operate, operationOptions } from '../operate.ts'
import { formatTime, parseDuration } from '../quantities.ts'

const dayMs = 86_400_000

interface Options extends OperationOptions {
  readonly yes?: boolean
  readonly retain?: string
  readonly backups?: boolean
}

export const define: Define = (command, cli) => {
  command
    .argument('<vm>', 'name of the VM')
    .option('--retain <days>', 'keep it, off, for so long before it is erased, such as 7d')
    .option('--backups', 'erase its backups too (needs an admin key)')
    .option('-y, --yes', 'do not ask (it asks only on a terminal)')
  operationOptions(command)
  examples(
    command,
    'hostlet vm rm web-1',
    'hostlet vm rm web-1 --retain 7d',
    'hostlet vm rm web-1 --backups --yes'
  )
  clientCommand<Options, readonly [string]>(command, cli, async (session, { options, arguments: [name] }) => {
    const retainDays = options.retain === undefined ? undefined : daysOf(options.retain)
    const what = `VM ${name} and all its disks${options.backups ? ', and all its backups' : ''}`
    const when = retainDays === undefined ? '' : ` in ${retainDays} days`
    if (asks(session, options))
      await confirm(session, { text: `Erase ${what}${when}?`, leftAlone: `VM ${name}` })
    const query = { retainDays, ...(options.backups && { backups: 'true' }) }
    const request = { method: 'DELETE', path: apiPath('vms', name), query, signal: session.signal } as const
    await operate(session, request, {
      options,
      done: (ended) => outcomeText(name, ended)
    })
  })
}

/** Whole days: they are what the host counts. Throws E_BAD_REQUEST. */
function daysOf(text: string): number {
  const days = parseDuration(text) / dayMs
  if (Number.isInteger(days) && days >= 1) return days
  throw new HostletError('E_BAD_REQUEST', `--retain takes whole days, such as 7d, not "${text}".`)
}

function outcomeText(name: string, { value }: OperationView): string {
  const { retainedUntil, existed, certificate, certificateFault } = value ?? {}
  if (typeof retainedUntil === 'number')
    return `VM ${name} is off and kept until ${formatTime(retainedUntil)}. Have it back with: hostlet vm undelete ${name}`
  const found = existed === false ? [`There was no definition of VM ${name} any more.`] : []
  const fault = typeof certificateFault === 'string' ? [`No certificate to rely on: ${certificateFault}`] : []
  if (typeof certificate !== 'string')
    return [...found, `VM ${name} is gone, and its disks with it.`, ...fault].join('\n')
  const saved = `Certificate: hostlet vm erase-certificate ${String(value?.uuid)}`
  return [...found, ...eraseLines(readEraseCertificate(certificate)), ...fault, saved].join('\n')
}
