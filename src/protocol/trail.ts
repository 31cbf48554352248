// The audit trail of a host on the wire: its head, the scheduler's receipt for it, and what they say when it does not fit.

import { type Static, Type } from '../lib/schema.ts'
import { ErrorReportSchema } from './command.ts'
import { HostId, Sha256, strict, Timestamp } from './names.ts'

/** JWS `typ` of a receipt: keeps a signature made for another purpose from being taken for one. */
export const receiptJwsType = 'hostlet-receipt+jwt'
export const receiptBytesMax = 4_096

const Sequence = Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER })

/** One entry of a trail, by its number and hash. */
export const TrailLink = Type.Object({ seq: Sequence, hash: Sha256 }, strict)
export type TrailLink = Static<typeof TrailLink>

/** What a receipt says: the host's trail had come to this entry when the scheduler signed. */
export const ReceiptClaims = Type.Object(
  {
    host: HostId,
    seq: Type.Integer({ minimum: 1 }),
    hash: Sha256,
    /** By the scheduler's clock. */
    at: Timestamp,
    /** Where the scheduler's own audit stood: the host bears witness of it. */
    scheduler: Type.Optional(TrailLink)
  },
  strict
)
export type ReceiptClaims = Static<typeof ReceiptClaims>

/** The last entry of the host's trail that is on its disk. */
export const AuditHead = Type.Object(
  {
    type: Type.Literal('audit-head'),
    seq: Type.Integer({ minimum: 1 }),
    hash: Sha256,
    /**
     * An earlier entry as the trail on the host's disk has it: the one of its last receipt, or the one that the scheduler asked
     * about. `hash` is null where it is not there.
     */
    earlier: Type.Optional(
      Type.Object({ seq: Type.Integer({ minimum: 1 }), hash: Type.Union([Sha256, Type.Null()]) }, strict)
    )
  },
  strict
)

/** Has the host say what its trail has at that number: the scheduler holds a newer head than the host has a receipt for. */
export const AuditQuestion = Type.Object(
  { type: Type.Literal('audit-question'), seq: Type.Integer({ minimum: 1 }) },
  strict
)

/** The head is stored. A compact JWS over ReceiptClaims, by a command key. */
export const AuditReceipt = Type.Object(
  { type: Type.Literal('audit-receipt'), jws: Type.String({ maxLength: receiptBytesMax }) },
  strict
)

/** The head does not go on from what the scheduler holds: no receipt until an operator has looked. */
export const AuditRefusal = Type.Object(
  { type: Type.Literal('audit-refusal'), seq: Type.Integer({ minimum: 1 }), error: ErrorReportSchema },
  strict
)
