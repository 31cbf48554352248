// A host as people and programs see it.

import type { HostView } from '../../protocol/api.ts'
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
    conditions: [...(report?.conditions ?? [])],
    vmCount,
    foreignCount: report?.foreignCount ?? 0,
    ...present({ facts: report?.facts })
  }
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
