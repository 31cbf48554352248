// A receipt of the scheduler: whether one of its command keys signed it, and what it says.

import { createPublicKey, verify } from 'node:crypto'
import { HostletError } from '../../errors.ts'
import type { CommandKey } from '../../protocol/enrollment.ts'
import { ReceiptClaims, receiptBytesMax, receiptJwsType } from '../../protocol/trail.ts'
import { compile } from '../../protocol/validate.ts'

const parseClaims = compile(ReceiptClaims, 'receipt')

export interface Receipt extends ReceiptClaims {
  /** The key that signed it. */
  readonly kid: string
}

/** Throws E_AUTH for what no key of these signed, E_BAD_REQUEST for what is no receipt. */
export function verifyReceipt(jws: string, keys: readonly CommandKey[]): Receipt {
  const [header = '', payload = '', signature = '', ...more] =
    jws.length > receiptBytesMax ? [] : jws.split('.')
  if (signature === '' || more.length > 0) throw bad('it is no compact JWS')
  const { alg, typ, kid, ...others } = objectOf(header)
  if (alg !== 'EdDSA' || typ !== receiptJwsType || Object.keys(others).length > 0)
    throw bad(`its header is not that of a ${receiptJwsType}`)
  const key = keys.find((each) => each.kid === kid)
  if (key === undefined)
    throw untrusted(`its key ${String(kid).slice(0, 64)} is not one of this host's scheduler`)
  const { kty, crv, x } = key
  const publicKey = createPublicKey({ key: { kty, crv, x }, format: 'jwk' })
  const signed = Buffer.from(`${header}.${payload}`)
  if (!verify(null, signed, publicKey, Buffer.from(signature, 'base64url')))
    throw untrusted('its signature does not fit its content')
  return { ...parseClaims(objectOf(payload)), kid: key.kid }
}

function objectOf(part: string): Record<string, unknown> {
  try {
    const value: unknown = JSON.parse(Buffer.from(part, 'base64url').toString('utf8'))
    if (typeof value === 'object' && value !== null) return value as Record<string, unknown>
  } catch (cause) {
    throw bad('it is not JSON', cause)
  }
  throw bad('it is no object')
}

function bad(why: string, cause?: unknown): HostletError {
  return new HostletError('E_BAD_REQUEST', `receipt of the audit trail: ${why}`, { cause })
}

function untrusted(why: string): HostletError {
  return new HostletError('E_AUTH', `receipt of the audit trail: ${why}`, { details: { reason: 'forged' } })
}
