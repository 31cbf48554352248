// An operation as people and programs see it, with a hint of what to do now.

import { type Advice, errorCodes } from '../../errors.ts'
import type { OperationView } from '../../protocol/api.ts'
import type { OperationWait } from '../../protocol/waiting.ts'
import { refusalCharactersMax } from '../consequences.ts'
import { needsApproval } from '../refusals.ts'
import type { CommandRecord } from '../store/store.ts'

/** Whether the operation's host is connected now, for the hint. */
export interface OperationContext {
  readonly hostConnected: boolean
  /** What its host last said that it waits for. */
  readonly wait?: OperationWait | undefined
}

export function operationView(record: CommandRecord, context: OperationContext): OperationView {
  const { id, verb, host, vm = record.about, state, createdAt, expiresAt, error } = record
  return {
    id,
    verb,
    host,
    ...present({ vm }),
    state,
    ...present({
      step: record.step,
      stepIndex: record.stepIndex,
      steps: record.steps,
      ratio: record.ratio,
      note: record.note,
      transfer: record.transfer
    }),
    ...present({ wait: state === 'running' && context.hostConnected ? context.wait : undefined }),
    createdAt,
    expiresAt,
    ...present({ awaits: awaitsApproval(record) ? ('approval' as const) : undefined }),
    ...present({ startedAt: record.startedAt, finishedAt: record.finishedAt, value: record.value, error }),
    next: hint(record, context)
  }
}

type Present<Fields> = { [Name in keyof Fields]?: Exclude<Fields[Name], undefined> }

/** Without the keys that are absent: the wire knows no undefined. */
export function present<Fields extends Record<string, unknown>>(fields: Fields): Present<Fields> {
  return Object.fromEntries(
    Object.entries(fields).filter(([, value]) => value !== undefined)
  ) as Present<Fields>
}

const hints: {
  readonly [State in CommandRecord['state']]: (record: CommandRecord, context: OperationContext) => string
} = {
  waiting: (record, { hostConnected }) =>
    hostConnected || awaitsApproval(record) ? waitingHint(record) : awayHint(record),
  sent: ({ host, id, expiresAt }, { hostConnected }) =>
    hostConnected
      ? `Sent to host ${host}, not acknowledged yet. Follow it with "hostlet op wait ${id}".`
      : `Sent to host ${host}, which went away before it acknowledged. It is sent again when the host comes back, until ${moment(expiresAt)}.`,
  running: ({ host, id }, { hostConnected, wait }) =>
    hostConnected
      ? `${wait === undefined ? '' : `Waits for ${wait.what} on its host. `}Follow it with "hostlet op wait ${id}".`
      : `Host ${host} is away, and may be working on it: what it did is told when it comes back.`,
  done: (record) => `Nothing to do. See "${whereToLook(record)}".`,
  failed: failureHint,
  expired: ({ error, host }) => error?.message ?? `Bring host ${host} back, then ask again.`
}

function whereToLook({ verb, vm, host }: CommandRecord): string {
  if (verb === 'vm.backup') return `hostlet backup ls --vm ${vm ?? ''}`
  if (verb.startsWith('backup.')) return 'hostlet backup ls'
  return vm === undefined || verb === 'vm.teardown' ? `hostlet host show ${host}` : `hostlet vm show ${vm}`
}

function hint(record: CommandRecord, context: OperationContext): string {
  return hints[record.state](record, context)
}

/** As far as its host has said, and nothing came since. */
function awaitsApproval({ state, refusal }: CommandRecord): boolean {
  return state === 'waiting' && refusal !== undefined && needsApproval(refusal)
}

function waitingHint(record: CommandRecord): string {
  const { host, refusal, retryAt, expiresAt } = record
  if (refusal !== undefined && awaitsApproval(record))
    return `Waits for an approval until ${moment(expiresAt)}: ${refusal.message.slice(0, refusalCharactersMax)}`
  if (refusal === undefined || retryAt === undefined)
    return `Host ${host} is connected and gets the command now.`
  const said = refusal.message.slice(0, refusalCharactersMax)
  return `Host ${host} does not take it now (${refusal.code}: ${said}) It is sent again at ${moment(retryAt)}, and so on until ${moment(expiresAt)}.`
}

function awayHint({ host, expiresAt }: CommandRecord): string {
  return `Host ${host} is away. The command is delivered when it comes back, until ${moment(expiresAt)}. See "hostlet host show ${host}".`
}

type Advised = Pick<CommandRecord, 'vm' | 'host'>

const failureHints: { readonly [Kind in Advice]: (record: Advised) => string } = {
  retry: () => 'Nothing happened. Ask again when the reason is gone.',
  look: ({ vm, host }) =>
    `Look at ${vm === undefined ? `"hostlet host show ${host}"` : `"hostlet vm show ${vm}"`} first, then ask again.`,
  stop: () => 'Do not repeat it before the cause is found: data is not what its checksum says.',
  drop: ({ host }) => pleaseReport(host),
  report: ({ host }) => pleaseReport(host),
  refuse: () => 'Change what was asked for as the error says, then ask again.'
}

function failureHint(record: CommandRecord): string {
  return failureHints[errorCodes[record.error?.code ?? 'E_INTERNAL'].advice](record)
}

function pleaseReport(host: string): string {
  return `Please report it, with the agent's log on host ${host}.`
}

function moment(at: number): string {
  return new Date(at).toISOString().replace(/\.\d+Z$/, 'Z')
}
