// The steps of a rotation as a command: one for the CA, one for the command key.

import { writeFileSync } from 'node:fs'
import { HostletError } from '../errors.ts'
import { type RotationView, rotationActions, type TrustView } from '../protocol/api.ts'
import { apiPath } from './api-client.ts'
import { clientCommand, examples, type Session } from './client-command.ts'
import { styleOfState } from './columns.ts'
import { asks, confirm } from './confirm.ts'
import type { Define } from './define.ts'
import { formatTime, parseDuration } from './quantities.ts'
import { type Column, renderTable } from './table.ts'

type Subject = RotationView['subject']
type Lagging = RotationView['lagging'][number]

interface Options {
  readonly force?: boolean
  readonly within?: string
  readonly out?: string
  readonly retired?: boolean
  readonly yes?: boolean
}

const steps = [...rotationActions, 'status'] as const
const historyShown = 5

/** Steps that hosts, tokens or old copies of a key do not survive. */
const questions: Readonly<Record<string, string>> = {
  'ca finish': 'Drop the old CA? What is signed by it connects to nothing any more.',
  'command-key finish': 'Drop the old command key? Nothing that it signs is obeyed any more.'
}

export function defineRotation(subject: Subject): Define {
  return (command, cli) => {
    command
      .argument('<step>', `one of ${steps.join(', ')}`)
      .option('--force', 'also while hosts are not ready; "status" says which, and what becomes of them')
      .option('-y, --yes', 'do not ask (it asks only on a terminal)')
    if (subject === 'ca')
      command
        .option('--within <duration>', 'over which time hosts renew their certificates (default: 10m)')
        .option('--out <file>', 'with status: write the CAs that are believed now to this file, as PEM')
        .option('--retired', 'with --out: also those that were dropped, to verify what is older')
    command.addHelpText('after', help[subject])
    examples(
      command,
      ...['start', 'status', 'activate', 'finish'].map((step) => `hostlet rotate ${subject} ${step}`)
    )
    clientCommand<Options, readonly [string]>(
      command,
      cli,
      async (session, { options, arguments: [step] }) => {
        if (step === 'status') await show(session, subject, options)
        else await take(session, subject, step, options)
      },
      ({ arguments: [step], options }) => refuseUnknown(step, options)
    )
  }
}

const help: Readonly<Record<Subject, string>> = {
  ca: `
start      makes the next CA; hosts take it, the present one goes on signing
activate   the new CA signs; hosts renew their certificates, both are believed
finish     the old CA is dropped
return     from activate back to start
abort      from start back to how it was
status     where it is, and which hosts are not ready for the next step`,
  'command-key': `
start      makes the next key; hosts take it, the present one goes on signing
activate   the new key signs; both are believed
finish     the old key is dropped and destroyed
return     from activate back to start
abort      from start back to how it was
status     where it is, and which hosts are not ready for the next step`
}

function refuseUnknown(step: string, { out, retired }: Options): boolean {
  if (!steps.some((known) => known === step))
    throw new HostletError('E_BAD_REQUEST', `"${step}" is no step. Steps are ${steps.join(', ')}.`)
  if (step !== 'status' && (out !== undefined || retired))
    throw new HostletError('E_BAD_REQUEST', '--out and --retired go with status.')
  return false
}

async function take(session: Session, subject: Subject, step: string, options: Options): Promise<void> {
  const { cli, client, signal } = session
  const question = questions[`${subject} ${step}`]
  if (question !== undefined && asks(session, options))
    await confirm(session, { text: question, leftAlone: `The rotation of the ${wordOf(subject)}` })
  const body = {
    ...(options.force && { force: true }),
    ...(options.within !== undefined && {
      renewWithinSeconds: Math.round(parseDuration(options.within) / 1_000)
    })
  }
  const answer = await client.ask(
    { method: 'POST', path: apiPath('rotations', subject, step), body, signal },
    'RotationReply'
  )
  cli.note(...answer.warnings)
  cli.show(answer, () => lines(session, answer.rotation))
}

async function show(session: Session, subject: Subject, options: Options): Promise<void> {
  const { cli, client, signal } = session
  const trust = await client.ask({ method: 'GET', path: '/v1/trust', signal }, 'TrustView')
  if (options.out !== undefined) write(options.out, trust, options)
  const rotation = trust.rotations.find((each) => each.subject === subject)
  if (rotation === undefined)
    throw new HostletError('E_PROTOCOL', `the scheduler says nothing of the ${wordOf(subject)}.`)
  const { serial, caHash, history } = trust
  const ofSubject = history.filter(({ what }) => what.startsWith(`${subject} `))
  cli.show({ ...rotation, caHash, trustSerial: serial, history: ofSubject }, () => [
    ...lines(session, rotation),
    ...ofSubject
      .slice(0, historyShown)
      .map(({ at, what, by, forced }) => `${formatTime(at)}  ${what}${forced ? ' (forced)' : ''}  by ${by}`)
  ])
}

function lines({ cli }: Session, rotation: RotationView): string[] {
  const { phase, subject, active, next, previous, hosts, lagging, more, possible } = rotation
  const ready = hosts - lagging.length
  if (more) cli.note(`Only ${lagging.length} of the hosts that are not ready are shown.`)
  return [
    `${wordOf(subject)}: ${phase}, since ${formatTime(rotation.changedAt)}`,
    `  signs     ${itemText(active)}`,
    ...(next === undefined ? [] : [`  next      ${itemText(next)}`]),
    ...(previous === undefined ? [] : [`  previous  ${itemText(previous)}`]),
    ...(phase === 'idle' ? [] : [`  ready     ${ready} of ${hosts} hosts for the next step`]),
    `  possible  ${possible.join(', ')}`,
    ...(lagging.length === 0
      ? []
      : renderTable(laggingColumns, lagging, { width: cli.width, colour: cli.colour }))
  ]
}

const laggingColumns: readonly Column<Lagging>[] = [
  { title: 'HOST', cell: ({ host }) => host },
  { title: 'STATE', cell: ({ state }) => state, style: ({ state }) => styleOfState(state) },
  { title: 'SERIAL', cell: ({ serial }) => (serial === 0 ? '-' : String(serial)), align: 'right' },
  { title: 'REASON', cell: ({ reason }) => reason, shrinks: true }
]

function itemText({ id, expiresAt }: RotationView['active']): string {
  return expiresAt === undefined ? id : `${id} (until ${formatTime(expiresAt)})`
}

function wordOf(subject: Subject): string {
  return subject === 'ca' ? 'CA' : 'command key'
}

function write(path: string, { caBundle, retired }: TrustView, options: Options): void {
  try {
    writeFileSync(path, [caBundle, ...(options.retired ? retired : [])].join(''))
  } catch (cause) {
    const code = (cause as NodeJS.ErrnoException).code ?? 'unknown error'
    throw new HostletError('E_BAD_REQUEST', `${path}: cannot be written (${code}).`, { cause })
  }
}
