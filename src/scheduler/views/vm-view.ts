// A VM as people and programs see it: what was asked for and what its host last said, with a reason for its state.

import type { VmView } from '../../protocol/api.ts'
import type { VmRecord } from '../store/store.ts'
import { present } from './operation-view.ts'

export function vmView(record: VmRecord): VmView {
  const { name, uuid, host, generation, report, specification } = record
  return {
    name,
    uuid,
    host,
    ...stateOf(record),
    wanted: record.wanted,
    generation: Math.max(generation, report?.generation ?? 0),
    profile: record.profile,
    cpus: record.cpus,
    memoryBytes: record.memoryBytes,
    ...present({ address: report?.address, macAddress: report?.macAddress, startedAt: report?.startedAt }),
    ...present({ health: healthOf(record), drift: report?.present ? report.drift : undefined }),
    createdAt: record.createdAt,
    ...present({ reportedAt: report?.reportedAt }),
    fresh: record.hostConnected && report?.present === true,
    ...present({
      operation: record.operation,
      placement: record.wish,
      image: specification?.image,
      rootDiskBytes: specification?.rootDiskBytes,
      dataDiskBytes: specification?.dataDiskBytes,
      retainedUntil: report?.retainedUntil,
      network: specification?.network
    })
  }
}

/** Nobody knows how a VM does that is off, or whose host is away, since it was last heard of. */
function healthOf({ report, hostConnected }: VmRecord): VmView['health'] {
  if (report?.health === undefined) return undefined
  if (hostConnected && report.present && report.state === 'running') return report.health
  return report.health.map(({ name }) => ({ name, state: 'unknown', since: report.reportedAt }))
}

type State = Pick<VmView, 'state' | 'reason'>

function stateOf(record: VmRecord): State {
  const seen = lastSeen(record)
  if (!record.hostRevoked) return seen
  const { host, name } = record
  return {
    state: seen.state,
    reason: `host ${host} is revoked; enroll the machine anew, or forget the VM with "hostlet vm forget ${name}"`
  }
}

function lastSeen({ report, host, name, hostConnected }: VmRecord): State {
  if (report === undefined)
    return {
      state: 'pending',
      reason: `host ${host} has not reported it yet; see "hostlet op ls --vm ${name}"`
    }
  if (!report.present)
    return {
      state: 'missing',
      reason: `host ${host} no longer has it; remove it with "hostlet vm rm ${name}" or look on the host`
    }
  if (report.retainedUntil !== undefined)
    return {
      state: 'retained',
      reason: `torn down, kept until ${new Date(report.retainedUntil).toISOString()}; have it back with "hostlet vm undelete ${name}"`
    }
  if (hostConnected) return { state: report.state, reason: report.reason }
  return { state: report.state, reason: `${report.reason}; last known, host ${host} is away` }
}
