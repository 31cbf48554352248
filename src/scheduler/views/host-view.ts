// A host as people and programs see it.

import type { HostView } from '../../protocol/api.ts'
import type { Condition } from '../../protocol/messages.ts'
import type { HostRecord } from '../store/store.ts'
import { present } from './operation-view.ts'

export function hostView(record: HostRecord): HostView {
  const { id, hostname, enrolledAt, certificateExpiresAt, report, vmCount } = record
  return {
    id,
    hostname,
    ...stateOf(record),
    enrolledAt,
    certificateExpiresAt,
    ...present({
      connectedAt: report?.connectedAt,
      lastSeenAt: report?.lastSeenAt,
      agentVersion: report?.agentVersion
    }),
    verbs: [...(report?.verbs ?? [])],
    hypervisor: report?.state === 'connected' ? report.hypervisor : 'unknown',
    operationsRunning: report?.operationsRunning ?? 0,
    operationsWaiting: report?.operationsWaiting ?? 0,
    conditions: [...(report?.conditions ?? []), ...conditionsOf(record)],
    vmCount,
    foreignCount: report?.foreignCount ?? 0,
    ...present({ facts: report?.facts })
  }
}

/** What the scheduler itself knows of it. */
function conditionsOf({ id, trailFault }: HostRecord): Condition[] {
  if (trailFault === undefined) return []
  const message = `the host's audit trail is not the one that it was: ${trailFault.message}. Run "hostlet audit verify --scheduler" on it; once it is explained: "hostlet audit accept ${id}".`
  return [{ id: 'audit-trail-tampered', severity: 'critical', message, since: trailFault.at }]
}

function stateOf({ revokedAt, report, id }: HostRecord): Pick<HostView, 'state' | 'reason'> {
  if (revokedAt !== undefined)
    return {
      state: 'revoked',
      reason: `it was revoked at ${new Date(revokedAt).toISOString()}; its VMs run on, enroll it anew to manage them`
    }
  if (report === undefined)
    return {
      state: 'new',
      reason: `it enrolled and has not connected yet; see "journalctl -u hostlet" on ${id}`
    }
  if (report.state === 'connected') return { state: 'connected', reason: report.reason }
  const seen = new Date(report.lastSeenAt).toISOString()
  return { state: 'away', reason: `${report.reason}; last seen ${seen}. Its VMs run on` }
}
