// An approval: another person's signature under one command, for hosts whose policy asks for it.

import { type Static, Type } from '../lib/schema.ts'
import { CommandId, HostId, Sha256, strict, Timestamp, VerbName, VmName } from './names.ts'

/** JWS `typ`: keeps a signature made for another purpose from being taken for an approval. */
export const approvalJwsType = 'hostlet-approval+jwt'
/** Longest approval, as a compact JWS. */
export const approvalCharactersMax = 4_096
/** Approvals that go along with one command. */
export const approvalsMax = 8
/** An approval of a longer life is refused: as long as a command may live. */
export const approvalLifeMsMax = 7 * 24 * 3_600_000
/** `details.reason` of the refusal of a command that needs more approvals: it may be sent again with them. */
export const approvalReason = 'approval'

export const ApproverName = Type.String({
  title: 'a name of lowercase letters, digits, dots and hyphens that begins with a letter, such as alice',
  pattern: '^[a-z][a-z0-9.-]{0,62}$'
})

export const ApprovalText = Type.String({
  title: 'a compact JWS',
  pattern: '^[A-Za-z0-9_-]+\\.[A-Za-z0-9_-]+\\.[A-Za-z0-9_-]+$',
  maxLength: approvalCharactersMax
})

/** The signed payload. It fits one command on one host, and nothing else. */
export const ApprovalClaims = Type.Object(
  {
    command: CommandId,
    /** SHA-256 of the command's signed payload: all that it says. */
    digest: Sha256,
    host: HostId,
    verb: VerbName,
    vm: Type.Optional(VmName),
    /** As the host's policy names the person. */
    approver: ApproverName,
    issuedAt: Timestamp,
    expiresAt: Timestamp
  },
  strict
)
export type ApprovalClaims = Static<typeof ApprovalClaims>
