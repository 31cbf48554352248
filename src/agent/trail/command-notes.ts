// What the trail says of a command: who signed it, what was decided, how it ended. Never its arguments.

import type { EntryFields } from '../../lib/chain.ts'
import type { CommandClaims } from '../../protocol/command.ts'
import type { CommandNote, SignedCommand } from '../operations/gate.ts'

export interface NotedCommand {
  readonly kind: string
  readonly fields: EntryFields
}

export function notedCommand(note: CommandNote): NotedCommand {
  switch (note.kind) {
    case 'accepted': {
      const { command, approvers = [] } = note
      // Only those whose signatures the gate has checked: what else came along may say that it is of anybody.
      const by = approvers.length > 0 && { approvers }
      return { kind: 'command.accepted', fields: { ...ofCommand(command), ...by, decision: 'accepted' } }
    }
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
  const { claims, signer, digest } = command
  const { issuedAt, expiresAt } = claims
  return {
    ...ofClaims(claims),
    signer: signer ?? 'unknown',
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
