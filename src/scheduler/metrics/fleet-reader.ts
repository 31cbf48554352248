// Reads the fleet out of the store, slice by slice, into series: what is known now, and of a host that is away nothing that is old.

import { setImmediate } from 'node:timers/promises'
import { type Labels, labelText, type MetricFamily } from '../../lib/exposition.ts'
import {
  backupMetrics,
  hostMetrics,
  hostSampleMetrics,
  vmMetrics,
  vmSampleMetrics
} from '../../protocol/exported-metrics.ts'
import type { FleetBackup, FleetHost, FleetStore, FleetVm } from '../store/fleet-store.ts'
import { hostStandingMetrics, schedulerMetrics } from './declarations.ts'
import { Series } from './series.ts'
import { Timetables } from './timetables.ts'

/** Rows of one slice: a few milliseconds, then others have their turn. */
export const sliceRowsMax = 200
/** A sample that is older shows nothing of now: the agent sends one each interval. */
const sampleAgeMsMin = 60_000
const sampleIntervalsMax = 4

export const fleetFamilies: readonly MetricFamily[] = [
  ...Object.values(hostStandingMetrics),
  ...Object.values(hostMetrics),
  ...hostSampleMetrics,
  ...Object.values(vmMetrics),
  ...vmSampleMetrics,
  ...Object.values(backupMetrics),
  ...[
    schedulerMetrics.hosts,
    schedulerMetrics.vms,
    schedulerMetrics.operationsOpen,
    schedulerMetrics.storeBytes,
    schedulerMetrics.auditFaults
  ]
]

export interface FleetReaderOptions {
  readonly store: FleetStore
  readonly now: number
  readonly metricsIntervalMs: number
  /** Also the metrics of each VM. */
  readonly vms: boolean
}

/** How far the clock of a host that is connected is off. */
type Connected = ReadonlyMap<string, number>

export async function readFleet(options: FleetReaderOptions): Promise<Series> {
  const series = new Series(fleetFamilies)
  const connected = await readHosts(options, series)
  await readVms(options, series, connected)
  for (const { state, verb, count } of await options.store.openOperations())
    series.add(schedulerMetrics.operationsOpen, labelText({ state, verb }), count)
  for (const { file, bytes } of await options.store.sizes())
    series.add(schedulerMetrics.storeBytes, labelText({ file }), bytes)
  return series
}

async function readHosts(options: FleetReaderOptions, series: Series): Promise<Connected> {
  const connected = new Map<string, number>()
  const states = new Counts(['new', 'connected', 'away', 'revoked'])
  let faults = 0
  let after = ''
  for (;;) {
    const hosts = await options.store.hosts(after, sliceRowsMax)
    for (const host of hosts) {
      states.add(stateOf(host))
      if (host.hasTrailFault && !host.isRevoked) faults += 1
      if (!host.isRevoked) addHost(host, options, series)
      if (stateOf(host) === 'connected') connected.set(host.id, host.report?.clockSkewMs ?? 0)
    }
    after = hosts.at(-1)?.id ?? after
    if (hosts.length < sliceRowsMax) break
    await setImmediate()
  }
  states.into(series, schedulerMetrics.hosts)
  series.add(schedulerMetrics.auditFaults, '', faults)
  return connected
}

function stateOf({ isRevoked, isCloned, report }: FleetHost): string {
  if (isRevoked) return 'revoked'
  if (report === undefined) return 'new'
  return report.isConnected && !isCloned ? 'connected' : 'away'
}

/** While a host is away, only that it is, since when, and what the scheduler itself knows of it. */
function addHost(host: FleetHost, options: FleetReaderOptions, series: Series): void {
  const { id, hostname, report, newest } = host
  const labels = labelText({ host: id })
  const isUp = stateOf(host) === 'connected'
  series.add(hostStandingMetrics.up, labels, isUp)
  series.add(hostMetrics.info, labelText({ host: id, hostname, version: report?.agentVersion ?? '' }), 1)
  series.add(hostMetrics.certificateExpiry, labels, host.certificateExpiresAt / 1_000)
  const severity = 'critical'
  if (host.isCloned)
    series.add(hostMetrics.condition, labelText({ host: id, condition: 'cloned-host', severity }), 1)
  if (host.hasTrailFault)
    series.add(hostMetrics.condition, labelText({ host: id, condition: 'audit-trail-tampered', severity }), 1)
  if (report === undefined) return
  series.add(hostStandingMetrics.lastSeen, labels, report.lastSeenAt / 1_000)
  series.add(hostStandingMetrics.connectedSince, labels, report.connectedAt / 1_000)
  if (!isUp) return
  const { clockSkewMs } = report
  series.add(
    hostStandingMetrics.clockSkew,
    labels,
    clockSkewMs === undefined ? undefined : clockSkewMs / 1_000
  )
  series.add(hostMetrics.libvirtConnected, labels, report.isHypervisorConnected)
  series.add(hostMetrics.operationsRunning, labels, report.operationsRunning)
  series.add(hostMetrics.operationsWaiting, labels, report.operationsWaiting)
  series.add(hostMetrics.draining, labels, report.isDraining)
  for (const { id: condition, severity } of report.conditions)
    series.add(hostMetrics.condition, labelText({ host: id, condition, severity }), 1)
  if (newest === undefined || !isFresh(newest.at, clockSkewMs ?? 0, options)) return
  const hasPool = newest.sample.poolCapacityBytes > 0
  for (const metric of hostSampleMetrics)
    if (hasPool || !metric.field.startsWith('pool')) series.add(metric, labels, newest.sample[metric.field])
}

async function readVms(options: FleetReaderOptions, series: Series, connected: Connected): Promise<void> {
  const states = new Counts(['pending', 'running', 'stopped', 'missing', 'unknown'])
  const timetables = new Timetables()
  let after = ''
  for (;;) {
    const vms = await options.store.vms(after, sliceRowsMax)
    const last = vms.at(-1)?.name
    if (last === undefined) break
    for (const vm of vms) states.add(vmStateOf(vm, connected))
    if (options.vms) {
      for (const vm of vms) addVm(vm, { options, series, connected })
      await addBackups(vms, await options.store.backups(after, last), { options, series, timetables })
    }
    after = last
    if (vms.length < sliceRowsMax) break
    await setImmediate()
  }
  states.into(series, schedulerMetrics.vms)
}

function vmStateOf({ summary, isPresent, host }: FleetVm, connected: Connected): string {
  if (summary === undefined) return 'pending'
  if (!isPresent) return 'missing'
  if (summary.retainedUntil !== undefined) return 'retained'
  return connected.has(host) ? summary.state : 'unknown'
}

function addVm(
  vm: FleetVm,
  { options, series, connected }: { options: FleetReaderOptions; series: Series; connected: Connected }
): void {
  const { summary, newest } = vm
  const of: Labels = { host: vm.host, vm: vm.name, uuid: vm.uuid }
  const labels = labelText(of)
  series.add(vmMetrics.info, labelText({ ...of, profile: vm.profile }), 1)
  series.add(vmMetrics.cpus, labels, vm.cpus)
  series.add(vmMetrics.wantedRunning, labels, vm.wanted === 'running')
  const skewMs = connected.get(vm.host)
  if (skewMs === undefined || summary === undefined || !vm.isPresent) return
  const isFreshSample = newest !== undefined && isFresh(newest.at, skewMs, options)
  const state = isFreshSample ? newest.sample.state : summary.state
  series.add(vmMetrics.state, labelText({ ...of, state }), 1)
  series.add(vmMetrics.driftItems, labels, summary.drift?.length)
  for (const { name: probe, state: found } of summary.state === 'running' ? (summary.health ?? []) : [])
    if (found !== 'unknown')
      series.add(vmMetrics.probeHealthy, labelText({ ...of, probe }), found === 'healthy')
  if (!isFreshSample) return
  for (const metric of vmSampleMetrics) {
    const value = newest.sample[metric.field]
    if (typeof value === 'number') series.add(metric, labels, value)
  }
}

/** Of hosts that are away too: they are told by the scheduler's own knowledge. */
async function addBackups(
  vms: readonly FleetVm[],
  backups: readonly FleetBackup[],
  { options, series, timetables }: { options: FleetReaderOptions; series: Series; timetables: Timetables }
): Promise<void> {
  const good = new Map(backups.map((backup) => [`${backup.uuid} ${backup.target}`, backup]))
  const byUuid = new Map(vms.map((vm) => [vm.uuid, vm]))
  for (const { uuid, target, at, durationMs, readBytes, storedBytes } of backups) {
    const vm = byUuid.get(uuid)
    if (vm === undefined) continue
    const labels = labelText({ host: vm.host, vm: vm.name, uuid, target })
    series.add(backupMetrics.lastSuccess, labels, at / 1_000)
    series.add(backupMetrics.duration, labels, durationMs / 1_000)
    series.add(backupMetrics.readBytes, labels, readBytes)
    series.add(backupMetrics.storedBytes, labels, storedBytes)
  }
  for (const vm of vms) {
    if (vm.schedule === undefined || vm.summary?.retainedUntil !== undefined) continue
    const { target } = vm.schedule.schedule
    const goodAt = good.get(`${vm.uuid} ${target}`)?.at
    const overdueAt = await timetables.overdueAt(vm.schedule, goodAt, options.now)
    if (overdueAt === undefined) continue
    const labels = labelText({ host: vm.host, vm: vm.name, uuid: vm.uuid, target })
    series.add(backupMetrics.overdue, labels, Math.max(0, options.now - overdueAt) / 1_000)
  }
}

/** By our own clock. One from the future was taken before the host's clock was put right. */
function isFresh(at: number, skewMs: number, { now, metricsIntervalMs }: FleetReaderOptions): boolean {
  return Math.abs(now - (at - skewMs)) <= Math.max(sampleAgeMsMin, metricsIntervalMs * sampleIntervalsMax)
}

class Counts {
  readonly #counts: Map<string, number>

  /** @param states that are there also with 0. */
  constructor(states: readonly string[]) {
    this.#counts = new Map(states.map((state) => [state, 0]))
  }

  add(state: string): void {
    this.#counts.set(state, (this.#counts.get(state) ?? 0) + 1)
  }

  into(series: Series, family: MetricFamily): void {
    for (const [state, count] of this.#counts) series.add(family, labelText({ state }), count)
  }
}
