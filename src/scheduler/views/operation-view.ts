// An operation as people and programs see it, with a hint of what to do now.

import { isErrorCode } from '../../errors.ts'
import type { OperationView } from '../../protocol/api.ts'
import type { CommandRecord } from '../store/store.ts'

/** Whether the operation's host is connected now, for the hint. */
export interface OperationContext {
  readonly hostConnected: boolean
}

export function operationView(record: CommandRecord, context: OperationContext): OperationView {
  const { id, verb, host, vm, state, createdAt, expiresAt, error } = record
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
      note: record.note
    }),
    createdAt,
    expiresAt,
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
  waiting: ({ host, expiresAt }, { hostConnected }) =>
    hostConnected
      ? `Host ${host} is connected and gets the command now.`
      : `Host ${host} is away. The command is delivered when it comes back, until ${moment(expiresAt)}. See "hostlet host show ${host}".`,
  sent: ({ host, id, expiresAt }, { hostConnected }) =>
    hostConnected
      ? `Sent to host ${host}, not acknowledged yet. Follow it with "hostlet op wait ${id}".`
      : `Sent to host ${host}, which went away before it acknowledged. It is sent again when the host comes back, until ${moment(expiresAt)}.`,
  running: ({ host, id }, { hostConnected }) =>
    hostConnected
      ? `Follow it with "hostlet op wait ${id}".`
      : `Host ${host} is away, and may be working on it: what it did is told when it comes back.`,
  done: ({ verb, vm, host }) =>
    vm === undefined || verb === 'vm.teardown'
      ? `Nothing to do. See "hostlet host show ${host}".`
      : `Nothing to do. See "hostlet vm show ${vm}".`,
  failed: (record) => failureHint(record),
  expired: ({ error, host }) => error?.message ?? `Bring host ${host} back, then ask again.`
}

function hint(record: CommandRecord, context: OperationContext): string {
  return hints[record.state](record, context)
}

function failureHint({ error, vm, host }: CommandRecord): string {
  const look = vm === undefined ? `"hostlet host show ${host}"` : `"hostlet vm show ${vm}"`
  const code = isErrorCode(error?.code) ? error.code : 'E_INTERNAL'
  if (code === 'E_BUSY' || code === 'E_UNAVAILABLE' || code === 'E_CAPACITY')
    return 'Nothing happened. Ask again when the reason is gone.'
  if (code === 'E_TIMEOUT' || code === 'E_INTERRUPTED' || code === 'E_CANCELLED' || code === 'E_LIBVIRT')
    return `Look at ${look} first, then ask again.`
  if (code === 'E_CORRUPT')
    return 'Do not repeat it before the cause is found: data is not what its checksum says.'
  if (code === 'E_INTERNAL' || code === 'E_PROTOCOL')
    return `Please report it, with the agent's log on host ${host}.`
  return `Change what was asked for as the error says, then ask again.`
}

function moment(at: number): string {
  return new Date(at).toISOString().replace(/\.\d+Z$/, 'Z')
}
