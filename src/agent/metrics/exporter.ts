// The agent's metrics as text for Prometheus: the newest sample, and what the agent knows of itself. Asks nobody anything.

import {
  expositionType,
  familyHead,
  familyText,
  type LabelledValue,
  type Labels,
  labelText,
  type MetricFamily,
  valueLine
} from '../../lib/exposition.ts'
import { processText } from '../../lib/process-metrics.ts'
import {
  backupMetrics,
  hostMetrics,
  hostSampleMetrics,
  vmMetrics,
  vmSampleMetrics
} from '../../protocol/exported-metrics.ts'
import type { Condition } from '../../protocol/messages.ts'
import type { HostSample, MetricsSample } from '../../protocol/metrics.ts'
import type { VmSummary } from '../../protocol/vm.ts'
import type { AgentTallies } from './agent-tallies.ts'
import { agentMetrics } from './declarations.ts'

/** How the backups of one VM to one repository stand; times in milliseconds since the epoch. */
export interface BackupStanding {
  readonly vm: string
  readonly uuid: string
  readonly target: string
  readonly goodAt: number | undefined
  /** Of the last run, where that was the good one. */
  readonly durationMs: number | undefined
  /** When it becomes overdue; undefined where no schedule asks for backups there. */
  readonly overdueAt: number | undefined
}

export interface ExporterSources {
  readonly host: string
  readonly hostname: string
  readonly version: string
  readonly tallies: AgentTallies
  now(): number
  /** The newest one; undefined before the first. */
  sample(): MetricsSample | undefined
  /** As last looked at. */
  vms(): readonly VmSummary[]
  backups(): readonly BackupStanding[]
  conditions(): readonly Condition[]
  /** Milliseconds since the epoch; undefined where the certificate cannot be read. */
  certificateExpiresAt(): number | undefined
  /** Everything that is one number, by its metric; undefined is left out. */
  figures(): readonly (readonly [family: MetricFamily, value: number | boolean | undefined])[]
}

export class Exporter {
  readonly #sources: ExporterSources

  constructor(sources: ExporterSources) {
    this.#sources = sources
  }

  /** As a route of an HTTP server answers. */
  async handle(): Promise<{ readonly type: string; readonly body: string }> {
    return { type: expositionType, body: this.text() }
  }

  text(): string {
    const { host, tallies } = this.#sources
    return [
      this.#agent(),
      this.#hostSample(),
      this.#conditions(),
      this.#vms(),
      this.#vmSamples(),
      this.#backups(),
      tallies.text({ host }),
      processText()
    ].join('')
  }

  #agent(): string {
    const { host, hostname, version } = this.#sources
    const expiresAt = this.#sources.certificateExpiresAt()
    return [
      one(agentMetrics.info, { host, version }, 1),
      one(hostMetrics.info, { host, hostname, version }, 1),
      one(hostMetrics.certificateExpiry, { host }, seconds(expiresAt)),
      ...this.#sources.figures().map(([family, value]) => one(family, { host }, value))
    ].join('')
  }

  #hostSample(): string {
    const { host } = this.#sources
    const figures = this.#sources.sample()?.host
    if (figures === undefined) return ''
    const isThere = (field: keyof HostSample) => !isPool(field) || figures.poolCapacityBytes > 0
    return hostSampleMetrics
      .filter(({ field }) => isThere(field))
      .map((metric) => one(metric, { host }, figures[metric.field]))
      .join('')
  }

  #conditions(): string {
    const { host } = this.#sources
    const values = this.#sources
      .conditions()
      .map(({ id, severity }): LabelledValue => [{ host, condition: id, severity }, 1])
    return familyText(hostMetrics.condition, values)
  }

  /** What was looked at; the state is that of the newest sample where there is one. */
  #vms(): string {
    const { host } = this.#sources
    const sampled = new Map(this.#sources.sample()?.vms.map(({ uuid, state }) => [uuid, state]))
    const vms = this.#sources.vms()
    const of = (family: MetricFamily, valuesOf: (vm: VmSummary, labels: Labels) => LabelledValue[]) =>
      familyText(
        family,
        vms.flatMap((vm) => valuesOf(vm, { host, vm: vm.name, uuid: vm.uuid }))
      )
    return [
      of(vmMetrics.state, (vm, labels) => [[{ ...labels, state: sampled.get(vm.uuid) ?? vm.state }, 1]]),
      of(vmMetrics.info, ({ profile }, labels) => [[{ ...labels, profile }, 1]]),
      of(vmMetrics.cpus, ({ cpus }, labels) => [[labels, cpus]]),
      of(vmMetrics.wantedRunning, ({ wanted }, labels) => [[labels, Number(wanted === 'running')]]),
      of(vmMetrics.probeHealthy, ({ health = [] }, labels) =>
        health
          .filter(({ state }) => state !== 'unknown')
          .map(({ name, state }) => [{ ...labels, probe: name }, Number(state === 'healthy')])
      ),
      of(vmMetrics.driftItems, ({ drift }, labels) => (drift === undefined ? [] : [[labels, drift.length]]))
    ].join('')
  }

  #vmSamples(): string {
    const { host } = this.#sources
    const vms = this.#sources.sample()?.vms ?? []
    const labels = vms.map(({ name, uuid }) => labelText({ host, vm: name, uuid }))
    return vmSampleMetrics
      .map((metric) => {
        const lines = vms.map((vm, index) => {
          const value = vm[metric.field]
          return typeof value === 'number' ? valueLine(metric.name, labels[index] ?? '', value) : ''
        })
        const text = lines.join('')
        return text === '' ? '' : familyHead(metric) + text
      })
      .join('')
  }

  #backups(): string {
    const { host, now } = this.#sources
    const backups = this.#sources.backups()
    const of = (family: MetricFamily, figure: (backup: BackupStanding) => number | undefined) =>
      familyText(
        family,
        backups.flatMap((backup) => {
          const { vm, uuid, target } = backup
          const value = figure(backup)
          return value === undefined ? [] : [[{ host, vm, uuid, target }, value] as const]
        })
      )
    return [
      of(backupMetrics.lastSuccess, ({ goodAt }) => seconds(goodAt)),
      of(backupMetrics.duration, ({ durationMs }) => seconds(durationMs)),
      of(backupMetrics.overdue, ({ overdueAt }) =>
        overdueAt === undefined ? undefined : Math.max(0, now() - overdueAt) / 1_000
      )
    ].join('')
  }
}

/** Without a pool that answered both are 0, and a pool without room is not what that is. */
function isPool(field: keyof HostSample): boolean {
  return field === 'poolCapacityBytes' || field === 'poolAvailableBytes'
}

function one(family: MetricFamily, labels: Labels, value: number | boolean | undefined): string {
  return value === undefined ? '' : familyText(family, [[labels, Number(value)]])
}

function seconds(ms: number | undefined): number | undefined {
  return ms === undefined ? undefined : ms / 1_000
}
