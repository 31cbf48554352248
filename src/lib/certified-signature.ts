// Signatures by a host's key, with the certificates that vouch for it: making one, and whether and whom to believe.

import { verify, X509Certificate } from 'node:crypto'
import { HostletError } from '../errors.ts'
import { splitCertificates } from './pem.ts'

/** A host's key for signing, wherever it is kept. */
export interface Signer {
  /** ECDSA on P-256 with SHA-256: r and s, 64 bytes (JWA's ES256). */
  sign(bytes: Uint8Array): Promise<Uint8Array>
  /** The chain, the leaf first: PEM, or DER in base64. */
  readonly certificates: readonly string[]
}

/** Whom to believe. Without it a signature is checked against the certificate that came with it, and that proves no origin. */
export interface Trust {
  /** CA certificates, PEM, one or several in each. */
  readonly authorities: readonly string[]
  /** Only hosts of this SPIFFE trust domain. */
  readonly trustDomain?: string
}

/** Who is said to have signed, and when. */
export interface Claim {
  readonly host: string
  /** Milliseconds since the epoch. Certificates of hosts live for days, what they sign for years: this is the time that counts. */
  readonly at: number
  /** What was signed, for the error: `the backup was made`. */
  readonly what: string
}

const signatureBytes = 64
const certificatesMax = 8
const headerCharactersMax = 65_536

/** The chain as JWS carries it in `x5c`: DER in base64. */
export function x5cOf({ certificates }: Signer): string[] {
  return certificates.map((certificate) => derOf(certificate).toString('base64'))
}

/** As base64url. */
export async function signBytes(bytes: Uint8Array, signer: Signer): Promise<string> {
  const signature = await signer.sign(bytes)
  if (signature.length === signatureBytes) return Buffer.from(signature).toString('base64url')
  throw new HostletError('E_INTERNAL', `the signer gave ${signature.length} bytes instead of 64`)
}

/** Throws E_AUTH with the reason `forged` when the leaf's key did not sign these bytes. */
export function signatureFits(
  [leaf]: readonly X509Certificate[],
  bytes: Uint8Array,
  signature: string
): void {
  const raw = Buffer.from(signature, 'base64url')
  if (leaf === undefined || raw.length !== signatureBytes || !isP256(leaf))
    throw forged('its signature is not one by a P-256 key with a certificate')
  const key = { key: leaf.publicKey, dsaEncoding: 'ieee-p1363' as const }
  if (!verify('sha256', bytes, key, raw)) throw forged('its signature does not fit its content')
}

/** What the protected header of a JWS says: its certificates, and everything else but the algorithm. Throws E_AUTH. */
export function certificatesOfHeader(header: string): {
  chain: X509Certificate[]
  rest: Readonly<Record<string, unknown>>
} {
  if (header.length > headerCharactersMax) throw forged('the header of its signature is too long')
  try {
    const { alg, x5c, ...rest } = JSON.parse(Buffer.from(header, 'base64url').toString('utf8')) as {
      alg?: unknown
      x5c?: unknown
    }
    if (alg !== 'ES256' || !Array.isArray(x5c) || x5c.length > certificatesMax)
      throw forged('the header of its signature is not ES256 with x5c')
    return { chain: x5c.map((der) => new X509Certificate(Buffer.from(String(der), 'base64'))), rest }
  } catch (cause) {
    if (cause instanceof HostletError) throw cause
    throw forged('the header of its signature cannot be read', cause)
  }
}

/** Checks that a CA that is believed vouches for the leaf, as that host, at that time. Throws E_AUTH with the reason `untrusted`. */
export function checkChain(chain: readonly X509Certificate[], trust: Trust, claim: Claim): void {
  const authorities = trust.authorities.flatMap(splitCertificates).map((pem) => new X509Certificate(pem))
  const anchored = chain.findIndex((certificate) => authorities.some((ca) => issued(ca, certificate)))
  if (anchored < 0) throw untrusted('was not signed by a CA that is trusted here')
  const path = chain.slice(0, anchored + 1)
  for (const [index, certificate] of path.entries()) {
    const issuer = path[index + 1]
    if (issuer !== undefined && !(issuer.ca && issued(issuer, certificate)))
      throw untrusted('has certificates that do not vouch for one another')
    if (claim.at < certificate.validFromDate.getTime() || claim.at > certificate.validToDate.getTime())
      throw untrusted(`was not valid when ${claim.what}`)
  }
  if (!hostNames(path[0]).some((name) => isHost(name, claim.host, trust.trustDomain)))
    throw untrusted(`does not belong to host ${claim.host}`)
}

export function forged(text: string, cause?: unknown): HostletError {
  return new HostletError('E_AUTH', text, { cause, details: { reason: 'forged' } })
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

function derOf(certificate: string): Buffer {
  try {
    const isPem = certificate.includes('-----BEGIN')
    return new X509Certificate(isPem ? certificate : Buffer.from(certificate, 'base64')).raw
  } catch (cause) {
    throw new HostletError('E_BAD_REQUEST', "the signer's certificate is not one", { cause })
  }
}

function untrusted(text: string): HostletError {
  return new HostletError('E_AUTH', `the certificate of its signer ${text}`, {
    details: { reason: 'untrusted' }
  })
}
