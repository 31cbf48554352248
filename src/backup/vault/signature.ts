// Who made a manifest: the detached signature over what it binds together, and the certificates that vouch for its key.

import { verify, X509Certificate } from 'node:crypto'
import { HostletError } from '../../errors.ts'

/** A host's key for signing, wherever it is kept. */
export interface Signer {
  /** ECDSA on P-256 with SHA-256: r and s, 64 bytes (JWA's ES256). */
  sign(bytes: Uint8Array): Promise<Uint8Array>
  /** The chain, the leaf first: PEM, or DER in base64. */
  readonly certificates: readonly string[]
}

/** Whom to believe. Without it a signature is checked against the certificate that came with it, and that proves no origin. */
export interface Trust {
  /** CA certificates, PEM. */
  readonly authorities: readonly string[]
  /** Only hosts of this SPIFFE trust domain. */
  readonly trustDomain?: string
}

export interface DetachedSignature {
  readonly protected: string
  readonly signature: string
}

/** What the signature binds. */
export interface Signed {
  readonly vm: string
  readonly snapshot: string
  readonly keyId: string
  /** SHA-256 of the sealed body, in hex. */
  readonly sealedHash: string
}

const signatureBytes = 64
const certificatesMax = 8
const headerCharactersMax = 65_536

/** The payload of the JWS: five lines, each ended by a line feed. */
export function signedPayload({ vm, snapshot, keyId, sealedHash }: Signed): string {
  return `hostlet-backup/1 manifest\n${vm}\n${snapshot}\n${keyId}\n${sealedHash}\n`
}

export async function signManifest(signed: Signed, signer: Signer): Promise<DetachedSignature> {
  const x5c = signer.certificates.map((certificate) => derOf(certificate).toString('base64'))
  const header = Buffer.from(JSON.stringify({ alg: 'ES256', x5c })).toString('base64url')
  const signature = await signer.sign(signingInput(header, signed))
  if (signature.length !== signatureBytes)
    throw new HostletError('E_INTERNAL', `the signer gave ${signature.length} bytes instead of 64`)
  return { protected: header, signature: Buffer.from(signature).toString('base64url') }
}

/** The chain whose leaf made the signature. Throws E_AUTH with the reason `forged` when none did. */
export function checkSignature(signed: Signed, signature: DetachedSignature): X509Certificate[] {
  const chain = certificatesOf(signature.protected)
  const leaf = chain[0]
  const raw = Buffer.from(signature.signature, 'base64url')
  if (leaf === undefined || raw.length !== signatureBytes || !isP256(leaf))
    throw forged('its signature is not one by a P-256 key with a certificate')
  const key = { key: leaf.publicKey, dsaEncoding: 'ieee-p1363' as const }
  if (!verify('sha256', signingInput(signature.protected, signed), key, raw))
    throw forged('its signature does not fit its content')
  return chain
}

/**
 * Checks that a CA that is believed vouches for the leaf, as host `host`, at the time (milliseconds since the epoch).
 * Certificates of hosts live for days and backups for years, so the time that counts is that of the backup.
 * Throws E_AUTH with the reason `untrusted`.
 */
export function checkChain(chain: readonly X509Certificate[], trust: Trust, host: string, at: number): void {
  const authorities = trust.authorities.map((pem) => new X509Certificate(pem))
  const anchored = chain.findIndex((certificate) => authorities.some((ca) => issued(ca, certificate)))
  if (anchored < 0) throw untrusted('was not signed by a CA that is trusted here')
  const path = chain.slice(0, anchored + 1)
  for (const [index, certificate] of path.entries()) {
    const issuer = path[index + 1]
    if (issuer !== undefined && !(issuer.ca && issued(issuer, certificate)))
      throw untrusted('has certificates that do not vouch for one another')
    if (at < certificate.validFromDate.getTime() || at > certificate.validToDate.getTime())
      throw untrusted('was not valid when the backup was made')
  }
  if (!hostNames(path[0]).some((name) => isHost(name, host, trust.trustDomain)))
    throw untrusted(`does not belong to host ${host}`)
}

function issued(authority: X509Certificate, certificate: X509Certificate): boolean {
  return certificate.checkIssued(authority) && certificate.verify(authority.publicKey)
}

function isHost(name: string, host: string, trustDomain: string | undefined): boolean {
  const match = /^spiffe:\/\/([^/]+)\/host\/([^/]+)$/.exec(name)
  return match?.[2] === host && (trustDomain === undefined || match[1] === trustDomain)
}

/** URI names; Node puts entries with odd characters into quotes, and no name of ours has any. */
function hostNames(certificate: X509Certificate | undefined): string[] {
  const entries = (certificate?.subjectAltName ?? '').match(/(?:[^,"]|"(?:[^"\\]|\\.)*")+/g) ?? []
  return entries
    .map((entry) => entry.trim())
    .filter((entry) => entry.startsWith('URI:') && !entry.includes('"'))
    .map((entry) => entry.slice('URI:'.length))
}

function isP256(certificate: X509Certificate): boolean {
  const { asymmetricKeyType, asymmetricKeyDetails } = certificate.publicKey
  return asymmetricKeyType === 'ec' && asymmetricKeyDetails?.namedCurve === 'prime256v1'
}

function certificatesOf(header: string): X509Certificate[] {
  if (header.length > headerCharactersMax) throw forged('the header of its signature is too long')
  try {
    const { alg, x5c, ...rest } = JSON.parse(Buffer.from(header, 'base64url').toString('utf8')) as {
      alg?: unknown
      x5c?: unknown
    }
    // A critical extension that we do not know would have to be refused; there are none.
    if (alg !== 'ES256' || 'crit' in rest || !Array.isArray(x5c) || x5c.length > certificatesMax)
      throw forged('the header of its signature is not ES256 with x5c')
    return x5c.map((der) => new X509Certificate(Buffer.from(String(der), 'base64')))
  } catch (cause) {
    if (cause instanceof HostletError) throw cause
    throw forged('the header of its signature cannot be read', cause)
  }
}

function signingInput(header: string, signed: Signed): Buffer {
  return Buffer.from(`${header}.${Buffer.from(signedPayload(signed)).toString('base64url')}`)
}

function derOf(certificate: string): Buffer {
  try {
    const isPem = certificate.includes('-----BEGIN')
    return new X509Certificate(isPem ? certificate : Buffer.from(certificate, 'base64')).raw
  } catch (cause) {
    throw new HostletError('E_BAD_REQUEST', "the signer's certificate is not one", { cause })
  }
}

function forged(text: string, cause?: unknown): HostletError {
  return new HostletError('E_AUTH', text, { cause, details: { reason: 'forged' } })
}

function untrusted(text: string): HostletError {
  return new HostletError('E_AUTH', `the certificate of its signer ${text}`, {
    details: { reason: 'untrusted' }
  })
}
