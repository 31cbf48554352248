// The exporter of metrics, joined to the parts that it tells of, and its port where the configuration has one.

import { statSync } from 'node:fs'
import { hostname } from 'node:os'
import { join } from 'node:path'
import { asHostletError } from '../errors.ts'
import { release } from '../lib/release.ts'
import { hostMetrics } from '../protocol/exported-metrics.ts'
import type { BackupScheduler } from './backups/schedule.ts'
import type { HealthMonitor } from './health/monitor.ts'
import { validityOf } from './identity/certificates.ts'
import type { Seen } from './local/status.ts'
import type { AgentTallies } from './metrics/agent-tallies.ts'
import type { MetricsBuffer } from './metrics/buffer.ts'
import { agentMetrics } from './metrics/declarations.ts'
import { type BackupStanding, Exporter, type ExporterSources } from './metrics/exporter.ts'
import type { MetricsListener } from './metrics/listener.ts'
import { parseLoopback } from './metrics/loopback.ts'
import type { Sampler } from './metrics/sampler.ts'
import type { HostParts } from './parts.ts'

export interface ExporterPeers {
  readonly tallies: AgentTallies
  readonly seen: Pick<Seen, 'sample' | 'inventory'>
  readonly buffer: MetricsBuffer
  readonly sampler: Pick<Sampler, 'statisticsMs'>
  readonly health: Pick<HealthMonitor, 'conditions'>
  readonly schedules: Pick<BackupScheduler, 'overdueTimes'>
  readonly session: { readonly isOnline: boolean }
  readonly dispatcher: {
    readonly running: number
    readonly waiting: number
    readonly drainingSince: number | undefined
  }
}

export function createExporter(parts: HostParts, peers: ExporterPeers): Exporter {
  const { clock, identity, hypervisor, records } = parts
  const { tallies, seen, health, schedules } = peers
  const isThere = () => hypervisor.status().state === 'connected'
  return new Exporter({
    host: identity.value.hostId,
    hostname: hostname(),
    version: release,
    tallies,
    now: () => clock.now(),
    sample: () => seen.sample,
    // While libvirt is away nobody knows how they are.
    vms: () => (isThere() ? (seen.inventory?.vms ?? []) : []),
    backups: () => standings(records.runs(), schedules.overdueTimes()),
    conditions: () => health.conditions(),
    certificateExpiresAt: () => expiryOf(identity.value.certificate),
    figures: () => figuresOf(parts, peers, isThere())
  })
}

/** Opens the port of the configuration. One that cannot be had is told, and the agent goes on: VMs matter more. */
export async function serveMetrics(
  { config, log, clock }: HostParts,
  exporter: Exporter
): Promise<MetricsListener | undefined> {
  const address = config.metrics.listen === undefined ? undefined : parseLoopback(config.metrics.listen)
  if (address === undefined) return undefined
  try {
    const { MetricsListener } = await import('./metrics/listener.ts')
    const handle = () => exporter.handle()
    const listener = await MetricsListener.open({ ...address, log, clock, handle })
    log.info({ address: config.metrics.listen }, 'metrics are served')
    return listener
  } catch (error) {
    log.error({ error: asHostletError(error) }, 'metrics are not served')
    return undefined
  }
}

function figuresOf(
  { config, journal }: HostParts,
  { buffer, sampler, session, dispatcher }: ExporterPeers,
  isThere: boolean
): ReturnType<ExporterSources['figures']> {
  const { statisticsMs } = sampler
  return [
    [hostMetrics.libvirtConnected, isThere],
    [hostMetrics.operationsRunning, dispatcher.running],
    [hostMetrics.operationsWaiting, dispatcher.waiting],
    [hostMetrics.draining, dispatcher.drainingSince !== undefined],
    [agentMetrics.schedulerConnected, session.isOnline],
    [agentMetrics.journalHealthy, journal.fault === undefined],
    [agentMetrics.journalBytes, journalBytes(config.stateDirectory)],
    [agentMetrics.samplesWaiting, buffer.size],
    [agentMetrics.samplesDropped, buffer.dropped],
    [agentMetrics.statisticsCall, statisticsMs === undefined ? undefined : statisticsMs / 1_000]
  ]
}

type Run = ReturnType<HostParts['records']['runs']>[number]

function standings(
  runs: readonly Run[],
  overdue: ReturnType<BackupScheduler['overdueTimes']>
): readonly BackupStanding[] {
  const known = new Map(runs.map((run) => [`${run.uuid} ${run.target}`, run]))
  const scheduled = overdue.map(({ vm, uuid, target, overdueAt }) => {
    const run = known.get(`${uuid} ${target}`)
    known.delete(`${uuid} ${target}`)
    return { vm, uuid, target, overdueAt, ...goodOf(run) }
  })
  const others = [...known.values()].map((run) => {
    const { vm, uuid, target } = run
    return { vm, uuid, target, overdueAt: undefined, ...goodOf(run) }
  })
  return [...scheduled, ...others]
}

function goodOf(run: Run | undefined): Pick<BackupStanding, 'goodAt' | 'durationMs'> {
  const isLast = run?.failures === 0
  return { goodAt: run?.goodAt, durationMs: isLast ? run.finishedAt - run.startedAt : undefined }
}

function expiryOf(certificate: string): number | undefined {
  try {
    return validityOf(certificate).to
  } catch {
    // A condition says so.
    return undefined
  }
}

function journalBytes(stateDirectory: string): number {
  return ['agent.db', 'agent.db-wal']
    .map((name) => statSync(join(stateDirectory, name), { throwIfNoEntry: false })?.size ?? 0)
    .reduce((sum, bytes) => sum + bytes, 0)
}
