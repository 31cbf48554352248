// hostlet vm rm NAME: erases a VM, after some days or now, and says what is kept, what is gone and what remains.

import { HostletError } from '../../errors.ts'
import type { OperationView } from '../../protocol/api.ts'
import { readEraseCertificate } from '../../scheduler/erasures.ts'
import { apiPath } from '../api-client.ts'
import { clientCommand, examples, type Session } from '../client-command.ts'
import { asks, confirm, confirmLasting, yesToLastingOption } from '../confirm.ts'
import type { Define } from '../define.ts'
import { eraseLines } from '../erase-text.ts'
import { type OperationOptions, operate, operationOptions } from '../operate.ts'
import { formatTime, parseDuration } from '../quantities.ts'

const dayMs = 86_400_000

interface Options extends OperationOptions {
  readonly yes?: boolean
  readonly retain?: string
  readonly now?: boolean
  readonly backups?: boolean
}

export const define: Define = (command, cli) => {
  command
    .argument('<vm>', 'name of the VM')
    .option('--retain <days>', 'keep it, off, for so long before it is erased, such as 7d')
    .option('--now', 'erase it at once; without either it is kept for as long as the scheduler is configured')
    .option('--backups', 'erase its backups too (needs an admin key)')
  operationOptions(yesToLastingOption(command))
  examples(
    command,
    'hostlet vm rm web-1',
    'hostlet vm rm web-1 --retain 7d',
    'hostlet vm rm web-1 --now',
    'hostlet vm rm web-1 --backups --yes'
  )
  clientCommand<Options, readonly [string]>(command, cli, async (session, { options, arguments: [name] }) => {
    const asked = daysAsked(options)
    if (!options.yes && !options.dryRun) await ask(session, name, options)
    const query = { retainDays: asked, ...(options.backups && { backups: 'true' }) }
    const request = { method: 'DELETE', path: apiPath('vms', name), query, signal: session.signal } as const
    await operate(session, request, {
      options,
      done: (ended) => outcomeText(name, ended)
    })
  })
}

/** Throws E_BAD_REQUEST where nobody can be asked and something would be erased that nobody could have back. */
async function ask(session: Session, name: string, options: Options): Promise<void> {
  const days = daysAsked(options) ?? (await daysDefault(session, name))
  const what = `VM ${name} and all its disks${options.backups ? ', and all its backups' : ''}`
  const text = days === 0 ? `Erase ${what}?` : `Switch VM ${name} off now, and erase ${what} in ${days} days?`
  const question = { text, leftAlone: `VM ${name}` }
  if (days === 0 || options.backups) await confirmLasting(session, options, question)
  else if (asks(session, options)) await confirm(session, question)
}

/** As the scheduler goes by it: one that is not there is erased at once. Throws E_CONFLICT for one that is kept already, as it does. */
async function daysDefault({ client, signal }: Session, name: string): Promise<number> {
  const { vm } = await client.ask({ method: 'GET', path: apiPath('vms', name), signal }, 'VmReply')
  if (vm.state === 'retained')
    throw new HostletError(
      'E_CONFLICT',
      `VM ${name} was torn down already, and is kept. Erase it now with "hostlet vm rm ${name} --now", or have it back with "hostlet vm undelete ${name}".`
    )
  if (['pending', 'missing'].includes(vm.state)) return 0
  return (await client.ask({ method: 'GET', path: '/v1/status', signal }, 'StatusView')).retainDays
}

/** Whole days: they are what the host counts; undefined where nothing was said. Throws E_BAD_REQUEST. */
function daysAsked({ retain, now }: Options): number | undefined {
  if (retain !== undefined && now)
    throw new HostletError('E_BAD_REQUEST', 'give --retain or --now, not both.')
  if (retain === undefined) return now ? 0 : undefined
  const days = /^0+$/.test(retain) ? 0 : parseDuration(retain) / dayMs
  if (Number.isInteger(days)) return days
  throw new HostletError('E_BAD_REQUEST', `--retain takes whole days, such as 7d, not "${retain}".`)
}

function outcomeText(name: string, { value }: OperationView): string {
  const { retainedUntil, existed, certificate, certificateFault } = value ?? {}
  if (typeof retainedUntil === 'number')
    return `VM ${name} is off and kept until ${formatTime(retainedUntil)}. Have it back with: hostlet vm undelete ${name}. Erase it now with: hostlet vm rm ${name} --now`
  const found = existed === false ? [`There was no definition of VM ${name} any more.`] : []
  const fault = typeof certificateFault === 'string' ? [`No certificate to rely on: ${certificateFault}`] : []
  if (typeof certificate !== 'string')
    return [...found, `VM ${name} is gone, and its disks with it.`, ...fault].join('\n')
  const saved = `Certificate: hostlet vm erase-certificate ${String(value?.uuid)}`
  return [...found, ...eraseLines(readEraseCertificate(certificate)), ...fault, saved].join('\n')
}
