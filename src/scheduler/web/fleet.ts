// What every page wants to know of the fleet: its figures, its hosts with their newest samples, and what is wrong with them.

import { createContext } from 'preact'
import { useContext, useMemo } from 'preact/hooks'
import type { HostView, LatestMetrics, StatusView } from '../../protocol/api.ts'
import type { Condition } from '../../protocol/messages.ts'
import { listMs, type Polled, usePoll } from './poll.ts'

export type HostEntry = LatestMetrics['hosts'][number]

export interface HostCondition extends Condition {
  readonly host: HostView
}

export interface Fleet {
  readonly status: StatusView | undefined
  readonly hosts: readonly HostEntry[]
  /** The worst first, then the newest. */
  readonly conditions: readonly HostCondition[]
  readonly polled: Polled<LatestMetrics>
}

/** With more hosts it is looked at less often: each answer is long. */
const hostsOften = 100
const largeFleetMs = 15_000

const nothing: Polled<LatestMetrics> = { data: undefined, error: undefined, at: 0, refresh: () => {} }
export const FleetContext = createContext<Fleet>({
  status: undefined,
  hosts: [],
  conditions: [],
  polled: nothing
})

export function useFleet(): Fleet {
  return useContext(FleetContext)
}

export function usePolledFleet(): Fleet {
  const status = usePoll<StatusView>('/v1/status').data
  const everyMs = (status?.hosts.total ?? 0) > hostsOften ? largeFleetMs : listMs
  const polled = usePoll<LatestMetrics>('/v1/metrics/latest?of=hosts', everyMs)
  return useMemo(() => {
    // Of a host that is away the last figures say nothing of now.
    const hosts = (polled.data?.hosts ?? []).map((entry) =>
      entry.host.state === 'connected' ? entry : { host: entry.host }
    )
    return { status, hosts, conditions: conditionsOf(hosts), polled }
  }, [status, polled.data, polled.error])
}

const ranks: Readonly<Record<Condition['severity'], number>> = { critical: 0, warning: 1, info: 2 }

function conditionsOf(hosts: readonly HostEntry[]): readonly HostCondition[] {
  return hosts
    .filter(({ host }) => host.state !== 'revoked')
    .flatMap(({ host }) =>
      [...absence(host), ...host.conditions].map((condition) => ({ ...condition, host }))
    )
    .sort((left, right) => ranks[left.severity] - ranks[right.severity] || right.since - left.since)
}

/** A host that is away cannot say so itself. */
function absence({ state, reason, lastSeenAt, enrolledAt }: HostView): readonly Condition[] {
  if (state !== 'away') return []
  return [{ id: 'host-away', severity: 'critical', message: reason, since: lastSeenAt ?? enrolledAt }]
}

/** Share of the memory in use, 0 to 1. */
export function memoryOf({ sample }: HostEntry): number | undefined {
  return sample && 1 - sample.memoryAvailableBytes / sample.memoryTotalBytes
}

/** Share of the storage of VMs in use, 0 to 1. */
export function poolOf({ sample }: HostEntry): number | undefined {
  return sample && sample.poolCapacityBytes > 0
    ? 1 - sample.poolAvailableBytes / sample.poolCapacityBytes
    : undefined
}
