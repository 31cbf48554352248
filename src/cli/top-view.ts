// The live table as lines: each host with its VMs below it, and what they use now.

import type { LatestMetrics } from '../protocol/api.ts'
import { shownState, since, styleOfState } from './columns.ts'
import { formatBytesShort, formatDuration } from './quantities.ts'
import { type Column, renderTable, type Style, type TableOptions } from './table.ts'

type HostEntry = LatestMetrics['hosts'][number]
type VmEntry = LatestMetrics['vms'][number]

interface Row {
  readonly name: string
  readonly state: string
  readonly style: Style | undefined
  readonly cpu: string
  readonly memory: string
  readonly disk: string
  readonly diskRate: string
  readonly networkRate: string
  readonly up: string
  readonly address: string
}

const none = '-'

const columns: readonly Column<Row>[] = [
  { title: 'NAME', cell: ({ name }) => name, shrinks: true },
  { title: 'STATE', cell: ({ state }) => state, style: ({ style }) => style },
  { title: 'CPU', cell: ({ cpu }) => cpu, align: 'right' },
  { title: 'MEMORY', cell: ({ memory }) => memory, align: 'right' },
  { title: 'DISK', cell: ({ disk }) => disk, align: 'right', spare: 1 },
  { title: 'READ/WRITE', cell: ({ diskRate }) => diskRate, align: 'right' },
  { title: 'NET IN/OUT', cell: ({ networkRate }) => networkRate, align: 'right' },
  { title: 'UP', cell: ({ up }) => up, align: 'right' },
  { title: 'ADDRESS', cell: ({ address }) => address }
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
  return renderTable(columns, [...rows, ...strays], options)
}

function hostRow({ host, sample }: HostEntry): Row {
  return {
    name: host.id,
    state: host.hypervisor === 'away' && host.state === 'connected' ? 'no libvirt' : host.state,
    style: host.hypervisor === 'away' ? 'red' : styleOfState(host.state),
    cpu: sample === undefined ? none : percent(sample.cpuUsedRatio),
    memory:
      sample === undefined
        ? none
        : share(sample.memoryTotalBytes - sample.memoryAvailableBytes, sample.memoryTotalBytes),
    disk:
      sample === undefined
        ? none
        : share(sample.poolCapacityBytes - sample.poolAvailableBytes, sample.poolCapacityBytes),
    diskRate: pair(sample?.diskReadBytesPerSecond, sample?.diskWriteBytesPerSecond),
    networkRate: pair(sample?.receiveBytesPerSecond, sample?.transmitBytesPerSecond),
    up: sample === undefined ? none : formatDuration(sample.uptimeSeconds * 1_000),
    address: none
  }
}

function vmRow({ vm, sample }: VmEntry, nowMs: number): Row {
  const runs = vm.state === 'running'
  const cores = runs ? sample?.cpuCoresUsed : undefined
  return {
    name: `  ${vm.name}`,
    state: shownState(vm),
    style: vm.fresh ? styleOfState(vm.state) : 'yellow',
    cpu: cores === undefined ? none : percent(cores / vm.cpus),
    memory: runs ? share(sample?.memoryResidentBytes, vm.memoryBytes) : share(undefined, vm.memoryBytes),
    disk: share(sample?.diskAllocationBytes, sample?.diskCapacityBytes),
    diskRate: runs ? pair(sample?.diskReadBytesPerSecond, sample?.diskWriteBytesPerSecond) : none,
    networkRate: runs ? pair(sample?.receiveBytesPerSecond, sample?.transmitBytesPerSecond) : none,
    up: runs ? since(vm.startedAt, nowMs) : none,
    address: vm.address ?? none
  }
}

function percent(ratio: number): string {
  return `${Math.round(ratio * 100)} %`
}

function share(used: number | undefined, whole: number | undefined): string {
  if (used === undefined && whole === undefined) return none
  return `${used === undefined ? none : formatBytesShort(used)}/${whole === undefined ? none : formatBytesShort(whole)}`
}

function pair(first: number | undefined, second: number | undefined): string {
  return first === undefined || second === undefined
    ? none
    : `${formatBytesShort(first)}/${formatBytesShort(second)}`
}
