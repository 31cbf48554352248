// VMs with their newest figures, in pages that the scheduler cuts and filters: there may be thousands.

import { html } from 'htm/preact'
import type { LatestMetrics } from '../../../protocol/api.ts'
import { bytesPerSecond } from '../format.ts'
import { usePoll } from '../poll.ts'
import { pathTo, withQuery } from '../routes.ts'
import { VmBadge } from './badge.ts'
import { Meter, Standing } from './small.ts'
import { type Column, RowLink, Table } from './table.ts'

export type VmEntry = LatestMetrics['vms'][number]

export interface VmFilter {
  readonly host?: string | undefined
  readonly state?: string | undefined
  readonly search?: string | undefined
  readonly amiss?: boolean | undefined
}

export interface VmTableProps {
  readonly filter: VmFilter
  /** Names after which earlier pages and this one begin. */
  readonly trail: readonly string[]
  readonly limit: number
  readonly empty: string
  onTrail(trail: readonly string[]): void
}

export function VmTable({ filter, trail, limit, empty, onTrail }: VmTableProps) {
  const path = withQuery('/v1/metrics/latest', { of: 'vms', ...filter, after: trail.at(-1), limit })
  const polled = usePoll<LatestMetrics>(path)
  const rows = polled.data?.vms ?? []
  const last = rows.at(-1)?.vm.name
  const shown = filter.host === undefined ? columns : columns.filter(({ title }) => title !== 'Host')
  return html`
    <${Standing} of=${polled} />
    ${polled.data && html`<${Table} label="VMs" columns=${shown} rows=${rows} keyOf=${({ vm }: VmEntry) => vm.name} empty=${empty} />`}
    ${
      (trail.length > 0 || polled.data?.more) &&
      html`<nav class="pager" aria-label="Pages of the list">
      <button disabled=${trail.length === 0} onClick=${() => onTrail(trail.slice(0, -1))}>Previous</button>
      <span class="faint">${rows.length > 0 && `${rows[0]?.vm.name} to ${last}`}</span>
      <button disabled=${!polled.data?.more || last === undefined} onClick=${() => onTrail([...trail, last ?? ''])}>Next</button>
    </nav>`
    }`
}

const columns: readonly Column<VmEntry>[] = [
  { title: 'VM', cell: ({ vm }) => html`<${RowLink} href=${pathTo('vm', vm.name)}>${vm.name}<//>` },
  { title: 'State', cell: ({ vm }) => html`<${VmBadge} vm=${vm} />` },
  {
    title: 'Host',
    class: 'short',
    cell: ({ vm }) => html`<a class="above" href=${pathTo('host', vm.host)}>${vm.host}</a>`
  },
  {
    title: 'CPU',
    cell: ({ vm, sample }) =>
      html`<${Meter} label=${`CPU of ${vm.cpus} cores`} ratio=${ratio(sample?.cpuCoresUsed, vm.cpus)} />`
  },
  {
    title: 'Memory',
    cell: ({ vm, sample }) =>
      html`<${Meter} label="Memory" ratio=${ratio(memoryUsed(sample), vm.memoryBytes)} />`
  },
  {
    title: 'Network',
    class: 'number',
    cell: ({ sample }) =>
      sample?.receiveBytesPerSecond !== undefined &&
      bytesPerSecond(sample.receiveBytesPerSecond + (sample.transmitBytesPerSecond ?? 0))
  },
  { title: 'Address', cell: ({ vm }) => vm.address && html`<code>${vm.address}</code>` },
  { title: 'Profile', class: 'short', cell: ({ vm }) => vm.profile }
]

function ratio(used: number | undefined, whole: number): number | undefined {
  return used === undefined ? undefined : used / whole
}

/** What the guest says is in use; else what its process takes. */
export function memoryUsed(sample: VmEntry['sample']): number | undefined {
  if (sample?.state !== 'running') return undefined
  const { memoryMaximumBytes, memoryAvailableBytes, memoryResidentBytes } = sample
  if (memoryMaximumBytes !== undefined && memoryAvailableBytes !== undefined)
    return Math.max(0, memoryMaximumBytes - memoryAvailableBytes)
  return memoryResidentBytes
}
