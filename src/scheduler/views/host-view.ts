// A host as people and programs see it.

import type { HostView } from '../../protocol/api.ts'
import type { Condition } from '../../protocol/messages.ts'
import { clonedRefusal } from '../identity/cloned.ts'
import type { HostRecord, HostReport } from '../store/store.ts'
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
    ...present({ drainingSince: report?.drainingSince }),
    conditions: [...(report?.conditions ?? []), ...ownConditions(record)],
    vmCount,
    foreignCount: report?.foreignCount ?? 0,
    ...(Object.keys(record.labels ?? {}).length > 0 && { labels: record.labels }),
    ...present({ facts: report?.facts, clockSkewMs: report?.clockSkewMs })
  }
}

/** What no agent can say of itself. */
function ownConditions({ id, clonedAt, trailFault }: HostRecord): Condition[] {
  const conditions: Condition[] = []
  if (clonedAt !== undefined)
    conditions.push({
      id: 'cloned-host',
      severity: 'critical',
      message: clonedRefusal(id).message,
      since: clonedAt
    })
  if (trailFault !== undefined)
    conditions.push({
      id: 'audit-trail-tampered',
      severity: 'critical',
      message: `the host's audit trail is not the one that it was: ${trailFault.message}. Run "hostlet audit verify --scheduler" on it; once it is explained: "hostlet audit accept ${id}".`,
      since: trailFault.at
    })
  return conditions
}

function stateOf({ revokedAt, clonedAt, report, id }: HostRecord): Pick<HostView, 'state' | 'reason'> {
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
  if (clonedAt !== undefined)
    return {
      state: 'away',
      reason: `two machines used its identity at ${new Date(clonedAt).toISOString()}, so neither may connect; take the copy away, then run "hostlet host settle ${id}"`
    }
  if (report.state === 'connected') return { state: 'connected', reason: connectedReason(report) }
  const seen = new Date(report.lastSeenAt).toISOString()
  return { state: 'away', reason: `${report.reason}; last seen ${seen}. Its VMs run on` }
}

function connectedReason({
  drainingSince,
  operationsRunning,
  operationsWaiting,
  reason
}: HostReport): string {
  if (drainingSince === undefined) return reason
  const left = operationsRunning + operationsWaiting
  const state = left === 0 ? 'drained' : `being drained, ${left} operations are left`
  return `${state}: it takes no new work since ${new Date(drainingSince).toISOString()}. Its VMs run on`
}
