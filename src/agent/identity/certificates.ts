// What a certificate must be before it is relied on: signed by our CA, in its time, bearing the right name, matching its key.

import { createHash, createPrivateKey, X509Certificate } from 'node:crypto'
import { checkServerIdentity, type PeerCertificate } from 'node:tls'
import { HostletError } from '../../errors.ts'
import { splitCertificates } from '../../lib/pem.ts'
import { spiffeId } from '../../protocol/enrollment.ts'
import type { TlsSettings } from '../session/socket.ts'
import type { Identity } from './identity.ts'

/** What `details.reason` of a refusal may be. */
export type CertificateFault =
  | 'missing'
  | 'wrong-ca'
  | 'wrong-name'
  | 'wrong-key'
  | 'expired'
  | 'not-yet-valid'

export interface Validity {
  readonly from: number
  readonly to: number
}

/** `sha256:` and the hash of the certificate's public key, as hosts pin it. */
export function publicKeyHash(certificate: X509Certificate): string {
  const key = certificate.publicKey.export({ type: 'spki', format: 'der' })
  return `sha256:${createHash('sha256').update(key).digest('hex')}`
}

/** Throws E_AUTH with the reason when this host's own certificate is of no use at the time. */
export function checkIdentity(identity: Identity, now: number): Validity {
  const certificate = parse(identity.certificate)
  if (issuerOf(identity) === undefined)
    throw fault(
      'wrong-ca',
      "this host's certificate was not signed by a CA that it believes; the CA of the fleet may have changed"
    )
  if (!certificate.checkPrivateKey(createPrivateKey(identity.key)))
    throw fault('wrong-key', "this host's certificate does not belong to its key")
  const wanted = spiffeId(identity.trustDomain, 'host', identity.hostId)
  if (!uriNames(certificate.subjectAltName).includes(wanted))
    throw fault('wrong-name', `this host's certificate does not bear the name ${wanted}`)
  const validity = validityOf(identity.certificate)
  if (now > validity.to)
    throw new HostletError(
      'E_AUTH',
      `this host's certificate expired on ${new Date(validity.to).toISOString()}. The agent renews it before it connects, within the grace of the scheduler (30 days unless set otherwise). If that fails, or the clock is wrong, see "timedatectl" and the log; past the grace make a token with "hostlet host token" and run "hostlet enroll --force".`,
      { details: { reason: 'expired' satisfies CertificateFault } }
    )
  if (now < validity.from)
    throw fault(
      'not-yet-valid',
      `this host's certificate is valid only from ${new Date(validity.from).toISOString()}; check the clock`
    )
  return validity
}

/** Of the CAs that this host believes, the one that signed its certificate. PEM. */
export function issuerOf({
  certificate,
  caCertificate
}: Pick<Identity, 'certificate' | 'caCertificate'>): string | undefined {
  const own = parse(certificate)
  return splitCertificates(caCertificate).find((pem) => {
    const authority = parse(pem)
    return own.checkIssued(authority) && own.verify(authority.publicKey)
  })
}

export function validityOf(certificatePem: string): Validity {
  const certificate = parse(certificatePem)
  return { from: certificate.validFromDate.getTime(), to: certificate.validToDate.getTime() }
}

/** TLS 1.3, our CA and no other, our certificate, and a server that is the scheduler. */
export function tlsSettings(identity: Identity): TlsSettings {
  return {
    ca: identity.caCertificate,
    cert: identity.certificate,
    key: identity.key,
    minVersion: 'TLSv1.3',
    checkServerIdentity: (hostname, certificate) =>
      serverFault(hostname, certificate, `spiffe://${identity.trustDomain}/scheduler/`)
  }
}

/**
 * Undefined when the server's certificate bears the scheduler's SPIFFE id, or the host name of the address. A host's own
 * certificate has neither, so that no captured host passes for the scheduler.
 */
export function serverFault(
  hostname: string,
  certificate: PeerCertificate,
  schedulerPrefix: string
): HostletError | undefined {
  const uris = uriNames(certificate.subjectaltname)
  if (uris.some((uri) => uri.startsWith(schedulerPrefix))) return undefined
  const mismatch = checkServerIdentity(hostname, certificate)
  const isHost = uris.some((uri) => /^spiffe:\/\/[^/]+\/host\//.test(uri))
  if (mismatch === undefined && !isHost) return undefined
  return new HostletError(
    'E_AUTH',
    `the server at ${hostname} bears neither that name nor a scheduler's, but ${namesOf(certificate)}. Use an address that is in its certificate.`,
    { cause: mismatch, details: { reason: 'wrong-name' satisfies CertificateFault } }
  )
}

/** URI entries of a subject alternative name as Node prints it; entries with odd characters come quoted. */
export function uriNames(subjectAltName: string | undefined): string[] {
  const entries = (subjectAltName ?? '').match(/(?:[^,"]|"(?:[^"\\]|\\.)*")+/g) ?? []
  return entries
    .map((entry) => entry.trim())
    .filter((entry) => entry.startsWith('URI:') && !entry.startsWith('URI:"'))
    .map((entry) => entry.slice('URI:'.length))
}

function namesOf(certificate: PeerCertificate): string {
  return (certificate.subjectaltname ?? 'no name').slice(0, 512)
}

function parse(pem: string): X509Certificate {
  try {
    return new X509Certificate(pem)
  } catch (cause) {
    throw new HostletError(
      'E_CORRUPT',
      'the stored identity has a certificate that is not one. Enroll the host again.',
      {
        cause
      }
    )
  }
}

function fault(reason: CertificateFault, text: string): HostletError {
  return new HostletError('E_AUTH', `${text}. Enroll the host again with "hostlet enroll --force".`, {
    details: { reason }
  })
}
