// Trust statements: which command keys and CAs a host believes, signed by a command key that it believes already.

import { type Static, Type } from '../lib/schema.ts'
import { ErrorReportSchema } from './command.ts'
import { CommandKey } from './enrollment.ts'
import { Milliseconds, ShortText, strict, Timestamp } from './names.ts'

export const trustJwsType = 'hostlet-trust+jwt'
/** Longest statement, as compact JWS. */
export const trustBytesMax = 64 * 1024
/** Statements of one message or answer. */
export const trustStatementsMax = 64
/** CAs of a statement: the active one, one that comes or goes, and those that vouch for old signatures only. */
export const authoritiesMax = 24

/** `active` signs; `next` will, `previous` did: both are believed as much. */
const liveRoles = ['active', 'next', 'previous'] as const
export const commandKeyRoles = liveRoles
/** `retired`: no connection and no certificate of it is taken, but what hosts signed in its time stays verifiable. */
export const authorityRoles = [...liveRoles, 'retired'] as const

/** Grows with each change; 0 stands for no statement at all. */
export const TrustSerial = Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER })

export const TrustStatement = Type.Object(
  {
    trustDomain: ShortText,
    serial: TrustSerial,
    issuedAt: Timestamp,
    commandKeys: Type.Array(Type.Object({ key: CommandKey, role: Type.Enum([...commandKeyRoles]) }, strict), {
      minItems: 1,
      maxItems: 4
    }),
    authorities: Type.Array(
      Type.Object(
        { certificate: Type.String({ maxLength: 4_096 }), role: Type.Enum([...authorityRoles]) },
        strict
      ),
      { minItems: 1, maxItems: authoritiesMax }
    ),
    /** A host whose certificate is not of the active CA renews it at a random moment within this time. */
    renewWithinMs: Milliseconds
  },
  strict
)
export type TrustStatement = Static<typeof TrustStatement>

export const TrustJws = Type.String({ maxLength: trustBytesMax })

/** Statements that the host does not have yet, the oldest first. */
export const Trust = Type.Object(
  {
    type: Type.Literal('trust'),
    statements: Type.Array(TrustJws, { minItems: 1, maxItems: trustStatementsMax })
  },
  strict
)

/** The serial that the host goes by now, and why it is not the last of what was sent. */
export const TrustAcknowledgement = Type.Object(
  { type: Type.Literal('trust-ack'), serial: TrustSerial, fault: Type.Optional(ErrorReportSchema) },
  strict
)
