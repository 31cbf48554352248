// What the trail says of a command: who signed it, what was decided, how it ended. Never its arguments.

import type { EntryFields } from '../../lib/chain.ts'
import type { CommandClaims } from '../../protocol/command.ts'
import type { CommandNote, SignedCommand } from '../operations/gate.ts'

const approvalsMax = 8

export interface NotedCommand {
  readonly kind: string
  readonly fields: EntryFields
}

export function notedCommand(note: CommandNote): NotedCommand {
  switch (note.kind) {
    case 'accepted':
      return { kind: 'command.accepted', fields: { ...ofCommand(note.command), decision: 'accepted' } }
    case 'refused': {
      const { code, message } = note.error
      return { kind: 'command.refused', fields: { ...ofCommand(note.command), decision: code, message } }
    }
    case 'begun':
      return { kind: 'operation.begun', fields: { ...ofClaims(note.claims), signer: 'self' } }
    case 'ended': {
      const { outcome, error, startedAt, finishedAt } = note.result
      const times = { startedAt, finishedAt, durationMs: Math.max(0, finishedAt - startedAt) }
      return {
        kind: 'operation.ended',
        fields: {
          ...ofClaims(note.claims),
          outcome,
          ...(error && { code: error.code, message: error.message }),
          ...times
        }
      }
    }
    default:
      return note satisfies never
  }
}

function ofCommand(
  command: (Pick<SignedCommand, 'claims'> & Partial<SignedCommand>) | undefined
): EntryFields {
  if (command === undefined) return { signer: 'unknown' }
  const { claims, signer, digest, approvals = [] } = command
  const { issuedAt, expiresAt } = claims
  return {
    ...ofClaims(claims),
    signer: signer ?? 'unknown',
    ...(approvals.length > 0 && { approvers: approvals.slice(0, approvalsMax).map(approverOf) }),
    ...(digest !== undefined && { digest }),
    issuedAt,
    expiresAt
  }
}

function ofClaims({ id, verb, subject }: CommandClaims): EntryFields {
  return {
    command: id,
    verb,
    ...(subject && { vm: subject.vm, uuid: subject.uuid, generation: subject.generation })
  }
}

/** Who says to have approved it: whether that is so is what the host's policy looks at. */
function approverOf(jws: string): string {
  try {
    const header = JSON.parse(Buffer.from(jws.split('.')[0] ?? '', 'base64url').toString('utf8'))
    return String(header.kid).slice(0, 128)
  } catch {
    // Not even a JWS: the gate refuses it, or nobody asked for one.
    return 'unreadable'
  }
}
