// What an operation waits for on its host, as the agent tells it.

import { type Static, Type } from '../lib/schema.ts'
import { CommandId, ShortText, strict, Timestamp, VerbName } from './names.ts'

/**
 * `lock`: another one has what it needs to itself. `place`: as many of its kind run as may. `libvirt`: it goes on when libvirt
 * answers again.
 */
export const waitKinds = ['lock', 'place', 'libvirt'] as const

export const OperationWait = Type.Object(
  {
    kind: Type.Enum([...waitKinds]),
    since: Timestamp,
    /** In words: "VM web-1", "the backups of web-1", "a place for transfers". */
    what: ShortText,
    /** The operation that has it. Absent: the agent itself has, for what is no operation, or there is none to name. */
    holder: Type.Optional(CommandId),
    holderVerb: Type.Optional(VerbName),
    /** Operations that come before this one. */
    ahead: Type.Integer({ minimum: 0 })
  },
  strict
)
export type OperationWait = Static<typeof OperationWait>

/** Most operations of one host whose waits are told. */
export const waitsMax = 256

export const WaitingOperation = Type.Object({ command: CommandId, wait: OperationWait }, strict)
export type WaitingOperation = Static<typeof WaitingOperation>
