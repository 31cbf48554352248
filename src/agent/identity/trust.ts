// Whom this host believes: command keys and CAs change by statements alone, each signed by a command key that is believed already.

import { createPublicKey, verify, X509Certificate } from 'node:crypto'
import { HostletError } from '../../errors.ts'
import type { CommandKey } from '../../protocol/enrollment.ts'
import { TrustStatement, trustBytesMax, trustJwsType } from '../../protocol/trust.ts'
import { compile } from '../../protocol/validate.ts'
import type { Identity } from './identity.ts'

const parseStatement = compile(TrustStatement, 'trust statement')
const headerKeys = ['alg', 'kid', 'typ']

/** What `details.reason` of a statement that is not adopted may be. */
export type TrustFault = 'form' | 'type' | 'key' | 'signature' | 'trust-domain' | 'older' | 'fork'

/**
 * The identity after a statement. Nothing waits in here, so that commands which come after a statement are checked against
 * it. Throws E_AUTH for one that is forged or foreign, E_STALE for one that is older than the one in force, E_BAD_REQUEST
 * for another form.
 */
export function adopt(identity: Identity, jws: string): Identity {
  if (jws.length > trustBytesMax) throw fault('E_BAD_REQUEST', 'form', 'it is too long')
  const parts = partsOf(jws)
  const [statement, serial] = [readPayload(parts.payload), serialOf(identity)]
  // Before the signature: its key may be dropped since, and whoever made it up, nothing comes of it.
  if (statement.serial < serial)
    throw fault('E_STALE', 'older', `it has the serial ${statement.serial}, the one in force ${serial}`)
  if (isInForce(identity, parts.payload)) return identity
  assertSigned(parts, identity.commandKeys)
  if (statement.trustDomain !== identity.trustDomain)
    throw fault('E_AUTH', 'trust-domain', `it is of the trust domain ${statement.trustDomain}`)
  // Somebody signed twice, and nobody can say which one counts.
  if (statement.serial === serial)
    throw fault('E_AUTH', 'fork', 'another one with the same serial is in force')
  checkContent(statement)
  return {
    ...identity,
    commandKeys: statement.commandKeys.map(({ key }) => key),
    caCertificate: statement.authorities
      .filter(({ role }) => role !== 'retired')
      .map(({ certificate }) => `${certificate.trim()}\n`)
      .join(''),
    statement: jws
  }
}

/** The statement that is in force; undefined on a host that has none yet. */
export function statementOf({ statement }: Identity): TrustStatement | undefined {
  // It was verified when it was adopted, and lies where the keys lie that it would be verified with.
  return statement === undefined ? undefined : readPayload(partsOf(statement).payload)
}

/** 0 for a host that has adopted none. */
export function serialOf(identity: Identity): number {
  return statementOf(identity)?.serial ?? 0
}

/** CAs that connect nobody any more, and still vouch for what hosts signed in their time. PEM. */
export function retiredAuthorities(identity: Identity): string[] {
  const { authorities = [] } = statementOf(identity) ?? {}
  return authorities.filter(({ role }) => role === 'retired').map(({ certificate }) => certificate)
}

/** Within which time this host is to renew its certificate, because another CA signs now; undefined where it need not. */
export function renewalWanted(identity: Identity): { readonly withinMs: number } | undefined {
  const statement = statementOf(identity)
  const active = statement?.authorities.find(({ role }) => role === 'active')
  if (statement === undefined || active === undefined) return undefined
  const issuer = new X509Certificate(active.certificate)
  const own = new X509Certificate(identity.certificate)
  if (own.checkIssued(issuer) && own.verify(issuer.publicKey)) return undefined
  return { withinMs: statement.renewWithinMs }
}

function assertSigned(
  { header, signed, signature }: ReturnType<typeof partsOf>,
  keys: readonly CommandKey[]
): void {
  if (header.alg !== 'EdDSA' || header.typ !== trustJwsType)
    throw fault('E_AUTH', 'type', `it is not of the type ${trustJwsType}, signed with EdDSA`)
  if (Object.keys(header).some((name) => !headerKeys.includes(name)))
    throw fault('E_AUTH', 'type', 'its header says more than alg, kid and typ')
  const key = keys.find(({ kid }) => kid === header.kid)
  if (key === undefined)
    throw fault(
      'E_AUTH',
      'key',
      'it is signed by a command key that this host does not know: it was away for too many changes. Enroll it anew: "hostlet host token", then "hostlet enroll --force"'
    )
  const { kty, crv, x } = key
  if (!verify(null, signed, createPublicKey({ format: 'jwk', key: { kty, crv, x } }), signature))
    throw fault('E_AUTH', 'signature', 'its signature does not fit')
}

function partsOf(jws: string) {
  const [head = '', body = '', tail = '', ...rest] = jws.split('.')
  try {
    if (rest.length > 0) throw new SyntaxError('more than three parts')
    const header: unknown = JSON.parse(Buffer.from(head, 'base64url').toString('utf8'))
    if (typeof header !== 'object' || header === null) throw new SyntaxError('no header')
    return {
      header: header as Readonly<Record<string, unknown>>,
      payload: Buffer.from(body, 'base64url'),
      signed: Buffer.from(`${head}.${body}`, 'ascii'),
      signature: Buffer.from(tail, 'base64url')
    }
  } catch (cause) {
    throw fault('E_BAD_REQUEST', 'form', 'it is not a compact JWS', cause)
  }
}

function readPayload(payload: Buffer): TrustStatement {
  try {
    return parseStatement(JSON.parse(payload.toString('utf8')))
  } catch (cause) {
    throw fault('E_BAD_REQUEST', 'form', 'its content is not that of a trust statement', cause)
  }
}

function isInForce({ statement }: Identity, payload: Buffer): boolean {
  return statement !== undefined && partsOf(statement).payload.equals(payload)
}

function checkContent({ commandKeys, authorities }: TrustStatement): void {
  const active = (items: readonly { role: string }[]) => items.filter(({ role }) => role === 'active').length
  if (new Set(commandKeys.map(({ key }) => key.kid)).size < commandKeys.length)
    throw fault('E_BAD_REQUEST', 'form', 'it names a key twice')
  if (active(commandKeys) !== 1 || active(authorities) !== 1)
    throw fault('E_BAD_REQUEST', 'form', 'it does not name one active key and one active CA')
  for (const { certificate } of authorities)
    if (!isAuthority(certificate))
      throw fault('E_BAD_REQUEST', 'form', 'it holds a certificate that is no CA')
}

function isAuthority(pem: string): boolean {
  try {
    return pem.split('-----BEGIN').length === 2 && new X509Certificate(pem).ca
  } catch {
    // Not a certificate at all.
    return false
  }
}

function fault(
  code: 'E_AUTH' | 'E_STALE' | 'E_BAD_REQUEST',
  reason: TrustFault,
  text: string,
  cause?: unknown
): HostletError {
  return new HostletError(code, `the trust statement is not adopted: ${text}.`, {
    cause,
    details: { reason }
  })
}
