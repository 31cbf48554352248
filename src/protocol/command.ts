// A command: the claims inside its JWS, and what the agent says of it: acknowledgement, progress, result.

import { errorCodes } from '../errors.ts'
import { type Static, Type } from '../lib/schema.ts'
import { CommandId, HostId, Sentence, ShortText, strict, Timestamp, Uuid, VerbName, VmName } from './names.ts'

/** JWS `typ`: keeps a signature made for another purpose from being taken for a command. */
export const commandJwsType = 'hostlet-command+jwt'
/** Longest compact JWS that either side handles. */
export const commandBytesMax = 256 * 1024
/** How far the clocks of agent and scheduler may differ before expiry is misjudged. */
export const clockSkewMsMax = 60_000

/** Which VM a command is about; its generation only grows, so that a stale command is told from a new one. */
export const CommandSubject = Type.Object(
  { vm: VmName, uuid: Uuid, generation: Type.Integer({ minimum: 1 }) },
  strict
)
export type CommandSubject = Static<typeof CommandSubject>

/** The signed payload. `arguments` is checked against the verb's own schema after the signature. */
export const CommandClaims = Type.Object(
  {
    id: CommandId,
    verb: VerbName,
    audience: HostId,
    issuedAt: Timestamp,
    expiresAt: Timestamp,
    subject: Type.Optional(CommandSubject),
    arguments: Type.Record(Type.String({ maxLength: 64 }), Type.Unknown())
  },
  strict
)
export type CommandClaims = Static<typeof CommandClaims>

export const ErrorReportSchema = Type.Object(
  {
    code: Type.Enum(Object.keys(errorCodes) as (keyof typeof errorCodes)[]),
    message: Sentence,
    details: Type.Optional(
      Type.Record(
        ShortText,
        Type.Union([Type.String({ maxLength: 4_096 }), Type.Number(), Type.Boolean(), Type.Null()])
      )
    )
  },
  strict
)

/** The end of an operation, recorded before it is sent and resent until acknowledged. */
export const CommandResult = Type.Object(
  {
    command: CommandId,
    outcome: Type.Enum(['done', 'failed']),
    /** The verb's result, when done. */
    value: Type.Optional(Type.Record(Type.String({ maxLength: 64 }), Type.Unknown())),
    /** Why it failed, and what to do. */
    error: Type.Optional(ErrorReportSchema),
    startedAt: Timestamp,
    finishedAt: Timestamp
  },
  strict
)
export type CommandResult = Static<typeof CommandResult>

export const OperationCancelParams = Type.Object({ operation: CommandId }, strict)
/** `cancelling`: it will never begin, or is being undone; its own result follows. Otherwise it had ended before. */
export const OperationCancelResult = Type.Object(
  { operation: CommandId, state: Type.Enum(['cancelling', 'done', 'failed']) },
  strict
)
