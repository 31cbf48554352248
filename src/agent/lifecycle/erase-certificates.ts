// The host's signed word on what it erased and what it did not.

import { createPrivateKey, randomUUID, sign, X509Certificate } from 'node:crypto'
import type { Clock } from '../../lib/clock.ts'
import { signStatement } from '../../lib/statement.ts'
import { type EraseCertificate, eraseJwsType } from '../../protocol/lifecycle.ts'
import type { HostIdentity } from '../backups/repositories.ts'
import { issuerOf } from '../identity/certificates.ts'

export interface EraseCertificatesOptions {
  readonly hostId: string
  /** As it is now. Undefined on a host that is not enrolled. */
  identity(): HostIdentity | undefined
  readonly clock: Pick<Clock, 'now'>
}

/** What one erase came to. */
export type EraseFacts = Omit<EraseCertificate, 'id' | 'host' | 'method' | 'finishedAt'>

export interface MadeCertificate {
  readonly certificate?: string
  /** Why there is none, or why nobody will believe it. */
  readonly certificateFault?: string
}

const method: EraseCertificate['method'] = {
  keys: 'overwritten in place, flushed, unlinked',
  volumes: 'unlinked, not overwritten',
  note: 'A medium that writes elsewhere than where it is told to (SSD, copy-on-write, snapshots of the file system) may keep old bytes of key files and of volumes that were not encrypted; a repository that keeps versions of objects keeps those of erased backups. Copies made by others than this host are not known to it.'
}

export class EraseCertificates {
  readonly #options: EraseCertificatesOptions

  constructor(options: EraseCertificatesOptions) {
    this.#options = options
  }

  /** What was erased stays erased whether or not anybody can sign for it: faults are told, not thrown. */
  async make(facts: EraseFacts): Promise<MadeCertificate> {
    const { hostId, identity: current, clock } = this.#options
    const identity = current()
    if (identity === undefined)
      return { certificateFault: 'this host is not enrolled: nobody could sign for the erase' }
    const finishedAt = clock.now()
    const claims: EraseCertificate = { id: randomUUID(), host: hostId, ...facts, finishedAt, method }
    const key = createPrivateKey(identity.key)
    const certificate = await signStatement(eraseJwsType, claims, {
      certificates: [identity.certificate, issuerOf(identity) ?? identity.caCertificate],
      sign: (bytes) => Promise.resolve(sign('sha256', bytes, { key, dsaEncoding: 'ieee-p1363' }))
    })
    const fault = validityFault(identity.certificate, finishedAt)
    return fault === undefined ? { certificate } : { certificate, certificateFault: fault }
  }
}

function validityFault(certificate: string, at: number): string | undefined {
  const { validFromDate, validToDate } = new X509Certificate(certificate)
  if (at >= validFromDate.getTime() && at <= validToDate.getTime()) return undefined
  return `it is signed with this host's certificate, which was valid from ${validFromDate.toISOString()} to ${validToDate.toISOString()} only: nobody will believe it. Look at the clock of this host, and at why the scheduler has not renewed the certificate.`
}
