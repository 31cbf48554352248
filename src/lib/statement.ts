// Statements of hosts: compact JWS (RFC 7515) that carry their signer's certificates, so that anyone with the fleet's CA can check them.

import { HostletError } from '../errors.ts'
import {
  type Claim,
  certificatesOfHeader,
  checkChain,
  forged,
  type Signer,
  signatureFits,
  signBytes,
  type Trust,
  x5cOf
} from './certified-signature.ts'

/** `typ` keeps a signature made for one purpose from being taken for another. */
export async function signStatement(typ: string, claims: object, signer: Signer): Promise<string> {
  const input = `${encoded({ alg: 'ES256', typ, x5c: x5cOf(signer) })}.${encoded(claims)}`
  return `${input}.${await signBytes(Buffer.from(input), signer)}`
}

export interface StatementRules<Claims> {
  readonly typ: string
  readonly trust: Trust
  /** Checks the payload. Throws what is wrong with it. */
  read(payload: unknown): Claims
  /** Who must have signed it, when. */
  claimOf(claims: Claims): Claim
}

/**
 * The claims, once signature, form and signer are as they should be. Throws E_AUTH with the reason `forged` or `untrusted`,
 * and what `read` throws.
 */
export function verifyStatement<Claims>(jws: string, rules: StatementRules<Claims>): Claims {
  const [header = '', payload = '', signature = '', ...more] = jws.split('.')
  if (more.length > 0 || signature === '') throw forged('it is no compact JWS')
  const { chain, rest } = certificatesOfHeader(header)
  const { typ, ...others } = rest
  if (typ !== rules.typ || 'crit' in others) throw forged(`it is not of the type ${rules.typ}`)
  signatureFits(chain, Buffer.from(`${header}.${payload}`), signature)
  const claims = rules.read(payloadOf(payload))
  checkChain(chain, rules.trust, rules.claimOf(claims))
  return claims
}

/** What a statement says, whoever made it. Throws E_BAD_REQUEST for what is none. */
export function unverifiedPayload(jws: string): unknown {
  return payloadOf(jws.split('.')[1] ?? '')
}

function payloadOf(payload: string): unknown {
  try {
    return JSON.parse(Buffer.from(payload, 'base64url').toString('utf8'))
  } catch (cause) {
    throw new HostletError('E_BAD_REQUEST', 'its payload is not JSON', { cause })
  }
}

function encoded(value: object): string {
  return Buffer.from(JSON.stringify(value)).toString('base64url')
}
