// The terms of the API as a VM's file writes them, exactly: what is written so is read back as the same.

import type { BackupSchedule } from '../../protocol/backup.ts'
import type { Egress, HealthProbe, Readiness, VmSpecification } from '../../protocol/vm.ts'
import { describeEgress, describeMapping } from '../network-options.ts'
import type { Manifest } from './schema.ts'

const units = [
  ['TiB', 1024 ** 4],
  ['GiB', 1024 ** 3],
  ['MiB', 1024 ** 2],
  ['KiB', 1024]
] as const

const durations = [
  ['d', 86_400_000],
  ['h', 3_600_000],
  ['m', 60_000],
  ['s', 1_000],
  ['ms', 1]
] as const

/** `2GiB`; in bytes where no unit fits. */
export function bytesText(bytes: number): string {
  const [unit, factor] = units.find(([, size]) => bytes >= size && bytes % size === 0) ?? ['', 1]
  return `${bytes / factor}${unit}`
}

/** `6h`, `90s`. */
export function durationText(ms: number): string {
  const [unit, factor] = durations.find(([, size]) => ms >= size && ms % size === 0) ?? ['ms', 1]
  return `${ms / factor}${unit}`
}

export function egressText(egress: Egress): NonNullable<Manifest['egress']> {
  return egress.mode === 'list' ? describeEgress(egress).split(' ') : egress.mode
}

export function probeText({ name, kind, port, path = '' }: HealthProbe): string {
  return `${name}=${kind}:${port}${path}`
}

export function readyOf({ tcpPort, http, timeoutMs }: Readiness): NonNullable<Manifest['ready']> {
  return {
    ...(tcpPort !== undefined && { port: tcpPort }),
    ...(http !== undefined && { http: `${http.port}${http.path}` }),
    ...(timeoutMs !== undefined && { timeout: durationText(timeoutMs) })
  }
}

export function backupOf(schedule: BackupSchedule): Exclude<NonNullable<Manifest['backup']>, 'none'> {
  const { target, everyMs, cron, timeZone, jitterMs, quiesce, limits, keep } = schedule
  return {
    target,
    ...(everyMs !== undefined && { every: durationText(everyMs) }),
    ...(cron !== undefined && { cron }),
    ...(timeZone !== undefined && { timeZone }),
    ...(jitterMs !== undefined && { jitter: durationText(jitterMs) }),
    ...(quiesce !== undefined && { quiesce }),
    ...(limits?.bytesPerSecond !== undefined && { limit: bytesText(limits.bytesPerSecond) }),
    ...(keep !== undefined && { keep })
  }
}

export function diskLimitsOf({
  bytesPerSecondMax,
  operationsPerSecondMax
}: NonNullable<VmSpecification['diskLimits']>): NonNullable<Manifest['diskLimits']> {
  return {
    ...(bytesPerSecondMax !== undefined && { rate: bytesText(bytesPerSecondMax) }),
    ...(operationsPerSecondMax !== undefined && { iops: operationsPerSecondMax })
  }
}

export function portTexts(ports: NonNullable<VmSpecification['network']>['ports']): string[] {
  return (ports ?? []).map(describeMapping)
}
