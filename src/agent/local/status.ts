// What the local socket tells of this host: gathered from the parts of the agent when somebody asks, from memory alone.

import { HostletError } from '../../errors.ts'
import type { Clock } from '../../lib/clock.ts'
import { release } from '../../lib/release.ts'
import { historyMax, type LocalBackup, type LocalOperation, type LocalStatus } from '../../protocol/local.ts'
import type { AgentMessageOf, Condition } from '../../protocol/messages.ts'
import type { MetricsSample } from '../../protocol/metrics.ts'
import type { PlanHealth } from '../backups/schedule-plan.ts'
import type { HypervisorStatus } from '../host/hypervisor.ts'
import type { FailedStart } from '../host/reconcile.ts'
import type { Journal } from '../operations/journal.ts'
import type { SessionStanding } from '../session/session.ts'
import { localOperation, type Queue } from './operations.ts'
import type { LocalRoute } from './server.ts'

/** The last that was seen, for when it cannot be looked at. */
export interface Seen {
  inventory?: AgentMessageOf<'inventory'>
  sample?: MetricsSample
  notStarted?: readonly FailedStart[]
}

export interface StatusSources {
  readonly host: string
  readonly clock: Pick<Clock, 'now'>
  readonly startedAt: number
  readonly seen: Seen
  readonly journal: Pick<Journal, 'find' | 'unfinished' | 'ofVm'>
  readonly queue: Queue
  scheduler(): SessionStanding
  hypervisor(): HypervisorStatus
  /** When the certificate ends, and when a new one is asked for. */
  certificate(): LocalStatus['certificate']
  drainingSince(): number | undefined
  conditions(): readonly Condition[]
  backups(): readonly PlanHealth[]
  nextBackupAt(uuid: string): number | undefined
}

export function statusRoutes(sources: StatusSources): readonly LocalRoute[] {
  return [
    { path: '/v1/status', handle: async () => json(statusOf(sources)) },
    { path: '/v1/operations', handle: async (query) => json({ operations: operationsOf(sources, query) }) }
  ]
}

export function statusOf(sources: StatusSources): LocalStatus {
  const { host, clock, startedAt, seen, journal } = sources
  const { inventory, sample, notStarted = [] } = seen
  const drainingSince = sources.drainingSince()
  return {
    host,
    version: release,
    now: clock.now(),
    startedAt,
    scheduler: schedulerOf(sources.scheduler()),
    libvirt: libvirtOf(sources.hypervisor()),
    certificate: sources.certificate(),
    ...(drainingSince !== undefined && { drainingSince }),
    conditions: [...sources.conditions()],
    ...(inventory && { seenAt: inventory.at }),
    vms: inventory?.vms ?? [],
    foreign: inventory?.foreign ?? [],
    notStarted: notStarted.map(({ vm, error }) => ({ vm, reason: error.message })),
    operations: journal.unfinished().map((entry) => toLocal(sources, entry)),
    backups: backupsOf(sources),
    ...(sample && { sample })
  }
}

function schedulerOf({ state, url, since, reason, retryAt }: SessionStanding): LocalStatus['scheduler'] {
  return {
    state,
    url,
    since,
    ...(reason !== undefined && { reason: reason.slice(0, 4_096) }),
    ...(retryAt !== undefined && { retryAt: Math.round(retryAt) })
  }
}

function libvirtOf(status: HypervisorStatus): LocalStatus['libvirt'] {
  if (status.state === 'connected') return { state: 'connected' }
  return { state: 'away', since: status.since, reason: status.reason.slice(0, 4_096) }
}

function backupsOf({ seen, backups, nextBackupAt }: StatusSources): LocalBackup[] {
  const uuids = new Map(seen.inventory?.vms.map(({ name, uuid }) => [name, uuid]))
  return backups().map(({ vm, target, overdue, failures, error }) => {
    const nextAt = nextBackupAt(uuids.get(vm) ?? '')
    return {
      vm,
      target,
      overdue,
      failures,
      ...(error && { error }),
      ...(nextAt !== undefined && { nextAt: Math.round(nextAt) })
    }
  })
}

function operationsOf(sources: StatusSources, query: URLSearchParams): LocalOperation[] {
  const [id, vm] = [query.get('id'), query.get('vm')]
  const { journal } = sources
  if (vm !== null) return journal.ofVm(vm, historyMax).map((entry) => toLocal(sources, entry))
  if (id === null)
    throw new HostletError('E_BAD_REQUEST', 'ask for one operation by "id", or for those of a "vm"')
  const entry = journal.find(id)
  if (entry !== undefined) return [toLocal(sources, entry)]
  throw new HostletError(
    'E_NOT_FOUND',
    `operation ${id.slice(0, 64)} is not known on this host: it never came, was refused, or is forgotten. See "hostlet logs ${id.slice(0, 64)}".`
  )
}

function toLocal(sources: StatusSources, entry: ReturnType<Journal['unfinished']>[number]): LocalOperation {
  const standing = sources.queue.standings().find(({ id }) => id === entry.id)
  return localOperation(entry, standing, sources)
}

function json(value: unknown): { type: string; body: string } {
  return { type: 'application/json', body: JSON.stringify(value) }
}
