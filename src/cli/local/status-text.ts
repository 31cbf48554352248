// The state of this host as people read it: what it is connected to, what is wrong, its VMs, what runs.

import type { LocalBackup, LocalOperation, LocalStatus } from '../../protocol/local.ts'
import type { Condition } from '../../protocol/messages.ts'
import type { VmSummary } from '../../protocol/vm.ts'
import type { Cli } from '../cli.ts'
import { ago, since, stateColumn, styleOfState } from '../columns.ts'
import { formatBytes, formatDuration, formatRatio, formatTime } from '../quantities.ts'
import { type Column, paint, plain, renderFields, renderTable, type Style } from '../table.ts'
import { standingText } from './operation-text.ts'

type Screen = Pick<Cli, 'width' | 'colour'>

export function statusLines(status: LocalStatus, screen: Screen): string[] {
  const { now } = status
  return [
    ...renderFields(fields(status), screen.colour),
    ...conditionLines(status.conditions, now, screen),
    ...section('VMs', vmColumns(now), status.vms, screen),
    ...section('Operations', operationColumns(now), status.operations, screen),
    ...section('Backups', backupColumns(now), status.backups, screen)
  ]
}

function fields(status: LocalStatus): readonly (readonly [string, string | undefined])[] {
  const { host, version, startedAt, now, drainingSince } = status
  return [
    ['host', host],
    ['agent', `${version}, up ${since(startedAt, now)}`],
    ['scheduler', schedulerText(status)],
    ['libvirt', libvirtText(status)],
    ['certificate', certificateText(status)],
    ['drained', drainingSince === undefined ? undefined : drainText(status)],
    ['VMs', vmsText(status)],
    ['operations', operationsText(status.operations)],
    ['load', loadText(status)]
  ]
}

export function schedulerText({ scheduler, now }: LocalStatus): string {
  const { state, url, reason, retryAt } = scheduler
  const peer = URL.parse(url)?.host ?? url
  const time = since(scheduler.since, now)
  if (state === 'connected') return `connected to ${peer} for ${time}`
  const why = reason === undefined ? '' : `: ${reason}`
  if (state === 'connecting') return `connecting to ${peer}, not connected for ${time}${why}`
  const again = retryAt === undefined ? '' : ` (tried again in ${formatDuration(Math.max(0, retryAt - now))})`
  return `away for ${time}${again}${why === '' ? '.' : why} VMs run on, and schedules are kept`
}

function libvirtText({ libvirt, now }: LocalStatus): string {
  if (libvirt.state === 'connected') return 'connected'
  return `away for ${since(libvirt.since, now)}: ${libvirt.reason ?? 'no reason known'}. VMs run on; look at "systemctl status libvirtd"`
}

function certificateText({ certificate, now }: LocalStatus): string {
  const { expiresAt, renewsAt } = certificate
  if (expiresAt === undefined) return 'cannot be read'
  const left = expiresAt - now
  if (left < 0) return `expired ${formatDuration(-left)} ago, at ${formatTime(expiresAt)}`
  const renewal = renewsAt === undefined ? '' : `; renewed from ${formatTime(renewsAt)} on`
  return `until ${formatTime(expiresAt)}, ${formatDuration(left)} left${renewal}`
}

function drainText({ drainingSince, now, operations }: LocalStatus): string {
  const left = operations.length === 0 ? 'nothing runs' : `${operations.length} operations are left`
  return `for ${since(drainingSince, now)}: takes no new work, ${left}. End it with "hostlet host resume"`
}

function vmsText({ vms, foreign, seenAt, now, libvirt }: LocalStatus): string {
  if (seenAt === undefined) return 'not seen yet since the agent started'
  const running = vms.filter(({ state }) => state === 'running').length
  const others =
    foreign.length === 0
      ? ''
      : foreign.length === 1
        ? ', 1 domain that is not ours'
        : `, ${foreign.length} domains that are not ours`
  const old = libvirt.state === 'away' ? `; last seen ${ago(seenAt, now)}` : ''
  return `${vms.length}, ${running} running${others}${old}`
}

function operationsText(operations: readonly LocalOperation[]): string {
  const waiting = operations.filter(({ state }) => state === 'waiting').length
  return `${operations.length - waiting} running, ${waiting} waiting`
}

function loadText({ sample, now }: LocalStatus): string | undefined {
  if (sample === undefined) return undefined
  const { cpuUsedRatio, memoryAvailableBytes, memoryTotalBytes, poolAvailableBytes, poolCapacityBytes } =
    sample.host
  const memory = `${formatBytes(memoryAvailableBytes)} of ${formatBytes(memoryTotalBytes)} memory available`
  const pool = `${formatBytes(poolAvailableBytes)} of ${formatBytes(poolCapacityBytes)} left in the pool`
  return `CPU ${formatRatio(cpuUsedRatio)}, ${memory}, ${pool} (${ago(sample.at, now)})`
}

const severityStyles: Readonly<Record<Condition['severity'], Style>> = {
  info: 'dim',
  warning: 'yellow',
  critical: 'red'
}
const severityRanks: Readonly<Record<Condition['severity'], number>> = { critical: 0, warning: 1, info: 2 }

/** The worst first, with the whole message below: it ends with what to do. */
export function conditionLines(conditions: readonly Condition[], now: number, screen: Screen): string[] {
  const sorted = conditions.toSorted((a, b) => severityRanks[a.severity] - severityRanks[b.severity])
  return sorted.flatMap(({ id, severity, message, since: at }) => {
    const word = screen.colour ? paint(severityStyles[severity], severity) : severity
    return ['', `${word}: ${plain(id)}, for ${since(at, now)}`, `  ${plain(message)}`]
  })
}

function vmColumns(now: number): readonly Column<VmSummary>[] {
  return [
    { title: 'VM', cell: ({ name }) => name },
    stateColumn(),
    { title: 'WANTED', cell: ({ wanted }) => wanted, spare: 2 },
    { title: 'CPUS', cell: ({ cpus }) => String(cpus), align: 'right', spare: 1 },
    { title: 'MEMORY', cell: ({ memoryBytes }) => formatBytes(memoryBytes), align: 'right', spare: 1 },
    { title: 'ADDRESS', cell: ({ address }) => address ?? '-' },
    {
      title: 'UP',
      cell: ({ startedAt, state }) => (state === 'running' ? since(startedAt, now) : '-'),
      align: 'right'
    },
    { title: 'REASON', cell: ({ reason }) => reason, shrinks: true }
  ]
}

function operationColumns(now: number): readonly Column<LocalOperation>[] {
  return [
    { title: 'OPERATION', cell: ({ id }) => id },
    { title: 'VERB', cell: ({ verb }) => verb },
    { title: 'VM', cell: ({ vm }) => vm ?? '-' },
    stateColumn(),
    { title: 'AGE', cell: ({ acceptedAt }) => since(acceptedAt, now), align: 'right' },
    { title: 'STEP OR WAIT', cell: (operation) => standingText(operation, now), shrinks: true }
  ]
}

function backupColumns(now: number): readonly Column<LocalBackup>[] {
  return [
    { title: 'VM', cell: ({ vm }) => vm },
    { title: 'TARGET', cell: ({ target }) => target },
    {
      title: 'NEXT',
      cell: ({ nextAt }) => {
        if (nextAt === undefined) return '-'
        return nextAt <= now ? 'now' : `in ${formatDuration(nextAt - now)}`
      },
      align: 'right'
    },
    {
      title: 'OVERDUE',
      cell: ({ overdue }) => overdue,
      style: ({ overdue }) => (overdue === 'no' ? undefined : styleOfState('failed'))
    },
    {
      title: 'LAST ERROR',
      cell: ({ error, failures }) => (error === undefined ? '-' : `${failures} failed: ${error.message}`),
      shrinks: true
    }
  ]
}

function section<Row>(
  title: string,
  columns: readonly Column<Row>[],
  rows: readonly Row[],
  { width, colour }: Screen
): string[] {
  if (rows.length === 0) return []
  return ['', `${title}:`, ...renderTable(columns, rows, { width, colour })]
}
