// Which of a host's certificates counts: the last one that was issued, and the one before it until the last has been used.

import { createHash, X509Certificate } from 'node:crypto'

/** What is remembered of an issued certificate. */
export interface CertificateMark {
  /** SHA-256 of its public key (SubjectPublicKeyInfo, DER), in hex. */
  readonly key: string
  /** The beginning of its time, in milliseconds since the epoch: tells which of two was issued later. */
  readonly from: number
}

/** What the store knows of a host's certificates. */
export interface KnownCertificates {
  readonly current: CertificateMark
  /** Key of the one that asked for the current one: good until the current one is used, for its answer may have been lost. */
  readonly previousKey: string | undefined
}

/**
 * `newer`: issued after everything that the store knows, so the store was put back from a backup. `superseded`: the host
 * has had another one since and has used it, so this one is a copy, or was put back from a backup of the host.
 */
export type Standing = 'current' | 'previous' | 'newer' | 'superseded'

export function standingOf(mark: CertificateMark, known: KnownCertificates | undefined): Standing {
  if (known === undefined) return 'newer'
  if (mark.key === known.current.key) return 'current'
  if (mark.key === known.previousKey) return 'previous'
  return mark.from > known.current.from ? 'newer' : 'superseded'
}

/** Of a certificate as PEM or DER. */
export function markOf(certificate: string | Uint8Array): CertificateMark {
  const parsed = new X509Certificate(certificate)
  const key = parsed.publicKey.export({ type: 'spki', format: 'der' })
  return { key: createHash('sha256').update(key).digest('hex'), from: parsed.validFromDate.getTime() }
}
