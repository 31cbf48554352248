// An approval as far as a scheduler can read it: whether it is one of this very command. Its signature is the host's to check.

import { createHash } from 'node:crypto'
import { HostletError } from '../errors.ts'
import { ApprovalClaims, approvalJwsType } from '../protocol/approval.ts'
import { compile } from '../protocol/validate.ts'

const parseClaims = compile(ApprovalClaims, 'approval')

/** Throws E_BAD_REQUEST for what is no approval, or is one of another command. */
export function readApproval(jws: string, command: string): ApprovalClaims {
  const [header, payload] = jws.split('.')
  if (jsonOf(header).typ !== approvalJwsType)
    throw new HostletError(
      'E_BAD_REQUEST',
      `this is no approval: its type is not ${approvalJwsType}. "hostlet approve" makes one.`
    )
  const claims = parseClaims(jsonOf(payload))
  const signed = Buffer.from(command.split('.')[1] ?? '', 'base64url')
  if (claims.digest === createHash('sha256').update(signed).digest('hex')) return claims
  throw new HostletError(
    'E_BAD_REQUEST',
    `the approval is of another command (${claims.command}): each is for one. Look at this one and approve it anew with "hostlet approve".`
  )
}

function jsonOf(part = ''): Record<string, unknown> {
  try {
    const value: unknown = JSON.parse(Buffer.from(part, 'base64url').toString('utf8'))
    return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : {}
  } catch {
    // The caller says that it is no approval.
    return {}
  }
}
