// The key of an approver: an Ed25519 JWK that belongs on no host and no scheduler, and what it signs.

import type { JWK } from 'jose'
import { HostletError } from '../errors.ts'
import { type Static, Type } from '../lib/schema.ts'
import { type ApprovalClaims, ApproverName, approvalJwsType } from '../protocol/approval.ts'
import { compile } from '../protocol/validate.ts'

const algorithm = 'EdDSA'
const base64url = '^[A-Za-z0-9_-]{43}$'
const PrivateKey = Type.Object({
  kty: Type.Literal('OKP'),
  crv: Type.Literal('Ed25519'),
  x: Type.String({ pattern: base64url }),
  d: Type.String({ pattern: base64url }),
  approver: Type.Optional(ApproverName)
})
const check = compile(PrivateKey, 'key')
export const checkApproverName = compile(ApproverName, '--name')

export type ApproverKey = Static<typeof PrivateKey> & { readonly kid: string }

export async function createApproverKey(approver: string | undefined): Promise<ApproverKey> {
  const { exportJWK, generateKeyPair } = await import('jose')
  const { privateKey } = await generateKeyPair(algorithm, { crv: 'Ed25519', extractable: true })
  return await named({ ...check(await exportJWK(privateKey)), ...(approver !== undefined && { approver }) })
}

/** Throws E_BAD_REQUEST; what the text holds is in no error. */
export async function parseApproverKey(text: string, path: string): Promise<ApproverKey> {
  try {
    const { kty, crv, x, d, approver } = check(JSON.parse(text))
    return await named({ kty, crv, x, d, ...(approver !== undefined && { approver }) })
  } catch {
    // Without a parser's words: they repeat what they could not read, and that may be the key.
    throw new HostletError(
      'E_BAD_REQUEST',
      `${path}: is not the private key of an approver. "hostlet approver keygen" makes one.`
    )
  }
}

export function publicHalf({ kty, crv, x, kid, approver }: ApproverKey) {
  return { kty, crv, x, kid, ...(approver !== undefined && { approver }) }
}

/** The compact JWS. */
export async function signApproval(claims: ApprovalClaims, key: ApproverKey): Promise<string> {
  const { CompactSign, importJWK } = await import('jose')
  const { kty, crv, x, d, kid } = key
  return await new CompactSign(new TextEncoder().encode(JSON.stringify(claims)))
    .setProtectedHeader({ alg: algorithm, kid, typ: approvalJwsType })
    .sign(await importJWK({ kty, crv, x, d }, algorithm))
}

/** Name of a key: RFC 7638, of the public members only. */
async function named(key: Static<typeof PrivateKey>): Promise<ApproverKey> {
  const { calculateJwkThumbprint } = await import('jose')
  const { kty, crv, x } = key
  return { ...key, kid: await calculateJwkThumbprint({ kty, crv, x } as JWK) }
}
