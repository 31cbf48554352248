// Which hosts a step of a rotation has to wait for, and why.

import type { RotationView } from '../../protocol/api.ts'
import type { HostTrust } from '../store/trust-store.ts'
import type { Rotation, RotationAction, RotationSubject } from './state.ts'

export type LaggingHost = RotationView['lagging'][number]

export interface Question {
  readonly subject: RotationSubject
  readonly action: RotationAction
  readonly rotation: Rotation<unknown>
  /** Hashes of the CAs; for the rotation of the CA. */
  readonly authorities: { readonly active: string; readonly other: string | undefined }
  readonly now: number
}

/**
 * Hosts that count: one whose certificate has expired has to come with a new token or a late renewal anyway, and is told all
 * then.
 */
export function living(hosts: readonly HostTrust[], now: number): readonly HostTrust[] {
  return hosts.filter(({ certificateExpiresAt }) => certificateExpiresAt > now)
}

/** Of living hosts, those that this step would leave behind. */
export function laggingHosts(hosts: readonly HostTrust[], question: Question): readonly LaggingHost[] {
  return living(hosts, question.now).flatMap((host) => {
    const reason = reasonOf(host, question)
    return reason === undefined
      ? []
      : [{ host: host.host, state: host.state, serial: host.serial ?? 0, reason }]
  })
}

function reasonOf(host: HostTrust, { subject, action, rotation, authorities }: Question): string | undefined {
  const waitsForStatement = action === 'activate' || action === 'finish'
  if (waitsForStatement && (host.serial ?? 0) < rotation.serial) return notAdopted(host)
  const dropsAuthority = subject === 'ca' && (action === 'finish' || action === 'abort')
  if (!dropsAuthority) return undefined
  const goesBy = host.authority
  if (action === 'abort' ? goesBy !== authorities.other : goesBy === authorities.active) return undefined
  return host.state === 'connected'
    ? 'its connection goes by a certificate of the CA that is to be dropped; it renews it by itself'
    : `it is ${wordOf(host)}, and its certificate is of the CA that is to be dropped; it renews it when it comes back`
}

function notAdopted(host: HostTrust): string {
  if (host.state !== 'connected')
    return `it is ${wordOf(host)}; it takes the statement when it comes back, before any command`
  if (host.serial === undefined) return 'its agent knows no trust statements. Upgrade it'
  return host.fault ?? 'it was sent the statement and has not answered yet'
}

function wordOf({ state, lastSeenAt }: HostTrust): string {
  if (state === 'new') return 'enrolled and has not connected yet'
  return lastSeenAt === undefined ? 'away' : `away since ${new Date(lastSeenAt).toISOString()}`
}
