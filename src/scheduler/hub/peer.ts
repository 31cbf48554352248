// Who is at the other end of an agent socket: the client certificate, checked step by step, each refusal with its reason.

import '../../lib/reflect-metadata.ts'
import { X509Certificate as NodeCertificate } from 'node:crypto'
import type { TLSSocket } from 'node:tls'
import { SubjectAlternativeNameExtension, X509Certificate } from '@peculiar/x509'
import { HostletError } from '../../errors.ts'
import { clonedRefusal } from '../identity/cloned.ts'
import { markOf, standingOf } from '../identity/standing.ts'
import type { HostRecord, HostStore } from '../store/store.ts'

export interface PeerOptions {
  readonly trustDomain: string
  /** PEM: CAs that sign hosts' certificates. */
  readonly authorities: readonly string[]
  readonly hosts: Pick<HostStore, 'find' | 'used'>
  readonly now: number
  /** For how long after its time a certificate still serves, where it is the last one that its host was given; 0 otherwise. */
  readonly graceMs?: number
}

export type PeerFault =
  | 'missing-certificate'
  | 'expired-certificate'
  | 'future-certificate'
  | 'foreign-certificate'
  | 'wrong-identity'
  | 'unknown-host'
  | 'revoked-host'
  | 'superseded-certificate'
  | 'cloned-host'

/**
 * The enrolled host that the certificate names. Throws E_AUTH whose `details.reason` is one of PeerFault; E_CONFLICT with
 * `cloned-host` while two machines use the identity.
 */
export async function identifyPeer(socket: TLSSocket, options: PeerOptions): Promise<HostRecord> {
  const { certificate, isExpired } = certificateOf(socket, options)
  const id = hostIdOf(certificate, options.trustDomain)
  const host = await options.hosts.find(id)
  if (host === undefined)
    throw refusal('unknown-host', `host ${id} is not enrolled here. Enroll it with "hostlet host token".`)
  if (host.revokedAt !== undefined)
    throw refusal('revoked-host', `host ${id} was revoked. Enroll it anew with "hostlet host token".`)
  await assertLast({ certificate, isExpired }, host, options)
  if (host.clonedAt !== undefined) throw clonedRefusal(id)
  return host
}

/** An older certificate than the last that was used is a copy, or comes from a backup: the host itself has the last one. */
async function assertLast({ certificate, isExpired }: Presented, host: HostRecord, options: PeerOptions) {
  const mark = markOf(new Uint8Array(certificate.rawData))
  const standing = standingOf(mark, host.certificates)
  if (standing === 'superseded')
    throw refusal(
      'superseded-certificate',
      `host ${host.id} has had a newer certificate than this one and has used it: this is a copy, or the state directory was put back from a backup. Enroll this machine anew with "hostlet host token".`
    )
  // In the grace nothing serves but what is on record; only the authority itself could have made a newer one.
  if (isExpired && standing === 'newer' && host.certificates !== undefined)
    throw refusal(
      'expired-certificate',
      `the client certificate expired at ${certificate.notAfter.toISOString()} and is not known to be the last that host ${host.id} was given. Make a token with "hostlet host token" and enroll the host with "hostlet enroll --force".`
    )
  const isNew = standing === 'current' && host.certificates?.previousKey !== undefined
  if (isNew || standing === 'newer') await options.hosts.used(host.id, mark)
}

interface Presented {
  readonly certificate: X509Certificate
  /** By our clock or the system's: then only the grace lets it through. */
  readonly isExpired: boolean
}

function certificateOf(socket: TLSSocket, options: PeerOptions): Presented {
  const { now, graceMs = 0 } = options
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
  if ((fault !== undefined && !isDateFault) || !isOurs(peer, options.authorities))
    throw refusal(
      'foreign-certificate',
      `the client certificate is not a host's certificate of this scheduler's authority (${fault}). Enroll the host here.`
    )
  const expiredMs = now - certificate.notAfter.getTime()
  const isExpired = expiredMs >= 0 || fault === 'CERT_HAS_EXPIRED'
  if (isExpired && (graceMs === 0 || expiredMs >= graceMs))
    throw refusal('expired-certificate', expiredText(certificate.notAfter, graceMs))
  if (fault === 'CERT_NOT_YET_VALID' || certificate.notBefore.getTime() > now)
    throw refusal(
      'future-certificate',
      `the client certificate is valid only from ${certificate.notBefore.toISOString()}. Check the clocks of both machines.`
    )
  return { certificate, isExpired }
}

/**
 * TLS tells one fault, the last that it found: of an expired certificate it does not say that a stranger signed it, or that
 * it is a server's. So both are looked at here, too.
 */
function isOurs(peer: NodeCertificate, authorities: readonly string[]): boolean {
  const signed = authorities.some((pem) => {
    const authority = new NodeCertificate(pem)
    return peer.checkIssued(authority) && peer.verify(authority.publicKey)
  })
  return signed && !peer.ca && peer.keyUsage?.length === 1 && peer.keyUsage[0] === clientAuth
}

const clientAuth = '1.3.6.1.5.5.7.3.2'

function expiredText(at: Date, graceMs: number): string {
  const expired = `the client certificate expired at ${at.toISOString()}`
  if (graceMs === 0) return `${expired}. It may only be renewed: the agent does so by itself, see its log.`
  const days = Math.round(graceMs / 8_640_000) / 10
  return `${expired}, longer ago than the grace of ${days} days within which it could be renewed (certificates.renewalGraceMs). Make a token with "hostlet host token" and enroll the host with "hostlet enroll --force".`
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
