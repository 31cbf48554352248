// Who is at the other end of an agent socket: the client certificate, checked step by step, each refusal with its reason.

import '../../lib/reflect-metadata.ts'
import type { TLSSocket } from 'node:tls'
import { SubjectAlternativeNameExtension, X509Certificate } from '@peculiar/x509'
import { HostletError } from '../../errors.ts'
import type { HostRecord, HostStore } from '../store/store.ts'

export interface PeerOptions {
  readonly trustDomain: string
  readonly hosts: Pick<HostStore, 'find'>
  readonly now: number
}

export type PeerFault =
  | 'missing-certificate'
  | 'expired-certificate'
  | 'future-certificate'
  | 'foreign-certificate'
  | 'wrong-identity'
  | 'unknown-host'
  | 'revoked-host'

/** The enrolled host that the certificate names. Throws E_AUTH whose `details.reason` is one of PeerFault. */
export async function identifyPeer(socket: TLSSocket, options: PeerOptions): Promise<HostRecord> {
  const certificate = certificateOf(socket, options.now)
  const id = hostIdOf(certificate, options.trustDomain)
  const host = await options.hosts.find(id)
  if (host === undefined)
    throw refusal('unknown-host', `host ${id} is not enrolled here. Enroll it with "hostlet host token".`)
  if (host.revokedAt !== undefined)
    throw refusal('revoked-host', `host ${id} was revoked. Enroll it anew with "hostlet host token".`)
  return host
}

function certificateOf(socket: TLSSocket, now: number): X509Certificate {
  const peer = socket.getPeerX509Certificate()
  if (peer === undefined)
    throw refusal(
      'missing-certificate',
      'the agent showed no client certificate. Enroll the host with "hostlet enroll".'
    )
  const certificate = new X509Certificate(peer.raw)
  // What TLS found besides the dates: the dates are looked at with our own clock below.
  const fault = socket.authorized ? undefined : String(socket.authorizationError)
  const isDateFault = fault === 'CERT_HAS_EXPIRED' || fault === 'CERT_NOT_YET_VALID'
  if (fault !== undefined && !isDateFault)
    throw refusal(
      'foreign-certificate',
      `the client certificate is not a host's certificate of this scheduler's authority (${fault}). Enroll the host here.`
    )
  if (fault === 'CERT_HAS_EXPIRED' || certificate.notAfter.getTime() <= now)
    throw refusal(
      'expired-certificate',
      `the client certificate expired at ${certificate.notAfter.toISOString()}. Enroll the host anew.`
    )
  if (fault === 'CERT_NOT_YET_VALID' || certificate.notBefore.getTime() > now)
    throw refusal(
      'future-certificate',
      `the client certificate is valid only from ${certificate.notBefore.toISOString()}. Check the clocks of both machines.`
    )
  return certificate
}

function hostIdOf(certificate: X509Certificate, trustDomain: string): string {
  const names = certificate.getExtension(SubjectAlternativeNameExtension)?.names.items ?? []
  const uris = names.filter(({ type }) => type === 'url').map(({ value }) => value)
  const prefix = `spiffe://${trustDomain}/host/`
  const [uri] = uris
  if (uris.length === 1 && uri?.startsWith(prefix) && /^[a-z0-9-]{1,63}$/.test(uri.slice(prefix.length)))
    return uri.slice(prefix.length)
  throw refusal(
    'wrong-identity',
    `the client certificate does not name a host of the trust domain ${trustDomain}. Enroll the host here.`
  )
}

function refusal(reason: PeerFault, message: string): HostletError {
  return new HostletError('E_AUTH', message, { details: { reason } })
}
