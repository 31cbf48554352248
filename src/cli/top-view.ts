// The live table as lines: each host with its VMs below it, and what they use now.

import type { LatestMetrics } from '../protocol/api.ts'
import { shownState, styleOfState } from './columns.ts'
import { formatBytesShort, formatDuration } from './quantities.ts'
import { type Column, renderTable, type Style, type TableOptions, widthMinOf } from './table.ts'

type HostEntry = LatestMetrics['hosts'][number]
type VmEntry = LatestMetrics['vms'][number]

interface Row {
  readonly name: string
  readonly state: string
  readonly style: Style | undefined
  /** Of the whole host, or of the VM's own CPUs. */
  readonly cpuRatio: number | undefined
  readonly memory: Share
  readonly disk: Share
  /** Bytes a second, read and written, received and transmitted. */
  readonly diskRate: Pair
  readonly networkRate: Pair
  readonly upMs: number | undefined
  readonly address: string | undefined
}

interface Share {
  readonly usedBytes: number | undefined
  readonly wholeBytes: number | undefined
}

type Pair = readonly [number | undefined, number | undefined]

const none = '-'
/** A name that is longer may be cut before the table takes its narrow form. */
const nameWidthWide = 24

const nameColumn: Column<Row> = { title: 'NAME', cell: ({ name }) => name, shrinks: true }
const upCell = ({ upMs }: Row) => (upMs === undefined ? none : formatDuration(upMs))

const wideColumns: readonly Column<Row>[] = [
  { ...nameColumn, widthMin: nameWidthWide },
  { title: 'STATE', cell: ({ state }) => state, style: ({ style }) => style },
  { title: 'CPU', cell: ({ cpuRatio }) => percent(cpuRatio), align: 'right' },
  { title: 'MEMORY', cell: ({ memory }) => share(memory), align: 'right' },
  { title: 'DISK', cell: ({ disk }) => share(disk), align: 'right' },
  { title: 'READ/WRITE', cell: ({ diskRate }) => pair(diskRate), align: 'right' },
  { title: 'NET IN/OUT', cell: ({ networkRate }) => pair(networkRate), align: 'right' },
  { title: 'UP', cell: upCell, align: 'right' },
  { title: 'ADDRESS', cell: ({ address }) => address ?? none }
]

/** The same in 80 columns: shares as percentages. What is spare goes only where there are fewer. */
const narrowColumns: readonly Column<Row>[] = [
  { ...nameColumn, widthMin: 8 },
  { title: 'STATE', cell: ({ state }) => state, style: ({ style }) => style },
  { title: 'CPU', cell: ({ cpuRatio }) => percent(cpuRatio), align: 'right' },
  { title: 'MEM', cell: ({ memory }) => percentOf(memory), align: 'right', spare: 1 },
  { title: 'DISK', cell: ({ disk }) => percentOf(disk), align: 'right', spare: 4 },
  { title: 'RD/WRITE', cell: ({ diskRate }) => pair(diskRate), align: 'right', spare: 6 },
  { title: 'NET I/O', cell: ({ networkRate }) => pair(networkRate), align: 'right', spare: 5 },
  { title: 'UP', cell: upCell, align: 'right', spare: 3 },
  { title: 'ADDRESS', cell: ({ address }) => address ?? none, spare: 2 }
]

/**
 * A title line, then a line a host and a line a VM. CPU is of the whole host, or of the VM's own CPUs; disk and network
 * are bytes a second.
 */
export function renderTop(latest: LatestMetrics, options: TableOptions): string[] {
  const known = new Set(latest.hosts.map(({ host }) => host.id))
  const rows = latest.hosts.flatMap((entry) => [
    hostRow(entry),
    ...latest.vms.filter(({ vm }) => vm.host === entry.host.id).map((vm) => vmRow(vm, latest.now))
  ])
  const strays = latest.vms.filter(({ vm }) => !known.has(vm.host)).map((vm) => vmRow(vm, latest.now))
  const all = [...rows, ...strays]
  const { width = Number.POSITIVE_INFINITY } = options
  return widthMinOf(wideColumns, all) <= width
    ? renderTable(wideColumns, all, options)
    : renderTable(narrowColumns, all, { ...options, gap: 1 })
}

/** What a host that is away used last is not what it uses; its disks hold what they held. */
function hostRow({ host, sample }: HostEntry): Row {
  const isBlind = host.hypervisor === 'away'
  const now = host.state === 'connected' ? sample : undefined
  return {
    name: host.id,
    state: isBlind && host.state === 'connected' ? 'no libvirt' : host.state,
    style: isBlind ? 'red' : styleOfState(host.state),
    cpuRatio: now?.cpuUsedRatio,
    memory: shareOfRest(now?.memoryAvailableBytes, sample?.memoryTotalBytes),
    disk: shareOfRest(sample?.poolAvailableBytes, sample?.poolCapacityBytes),
    diskRate: [now?.diskReadBytesPerSecond, now?.diskWriteBytesPerSecond],
    networkRate: [now?.receiveBytesPerSecond, now?.transmitBytesPerSecond],
    upMs: now && now.uptimeSeconds * 1_000,
    address: undefined
  }
}

/** The same of a VM that is off, or whose host is away. */
function vmRow({ vm, sample }: VmEntry, nowMs: number): Row {
  const isRunning = vm.state === 'running' && vm.fresh
  const now = isRunning ? sample : undefined
  return {
    name: `  ${vm.name}`,
    state: shownState(vm),
    style: vm.fresh ? styleOfState(vm.state) : 'yellow',
    cpuRatio: now?.cpuCoresUsed === undefined ? undefined : now.cpuCoresUsed / vm.cpus,
    memory: { usedBytes: now?.memoryResidentBytes, wholeBytes: vm.memoryBytes },
    disk: { usedBytes: sample?.diskAllocationBytes, wholeBytes: sample?.diskCapacityBytes },
    diskRate: [now?.diskReadBytesPerSecond, now?.diskWriteBytesPerSecond],
    networkRate: [now?.receiveBytesPerSecond, now?.transmitBytesPerSecond],
    upMs: isRunning ? upOf(vm.startedAt, now?.uptimeSeconds, nowMs) : undefined,
    address: vm.address
  }
}

/** An agent that was restarted may not know when a VM started, and still how long it has run. */
function upOf(startedAt: number | undefined, seconds: number | undefined, nowMs: number): number | undefined {
  if (startedAt !== undefined) return Math.max(0, nowMs - startedAt)
  return seconds === undefined ? undefined : seconds * 1_000
}

function shareOfRest(rest: number | undefined, whole: number | undefined): Share {
  return {
    usedBytes: rest === undefined || whole === undefined ? undefined : whole - rest,
    wholeBytes: whole
  }
}

function percent(ratio: number | undefined): string {
  return ratio === undefined ? none : `${Math.round(ratio * 100)}%`
}

function percentOf({ usedBytes, wholeBytes }: Share): string {
  return percent(usedBytes === undefined || !wholeBytes ? undefined : usedBytes / wholeBytes)
}

function share({ usedBytes, wholeBytes }: Share): string {
  if (usedBytes === undefined && wholeBytes === undefined) return none
  const [used, whole] = [usedBytes, wholeBytes].map((bytes) =>
    bytes === undefined ? none : formatBytesShort(bytes)
  )
  return `${used}/${whole}`
}

function pair([first, second]: Pair): string {
  return first === undefined || second === undefined
    ? none
    : `${formatBytesShort(first)}/${formatBytesShort(second)}`
}
