// The four charts of a host or VM over one range of time, which the reader chooses.

import { html } from 'htm/preact'
import { useState } from 'preact/hooks'
import type { HostSample, VmSample } from '../../../protocol/metrics.ts'
import { bytes, bytesPerSecond, cores, percent } from '../format.ts'
import { type Polled, useSamples } from '../poll.ts'
import { type Point, ranges } from '../series.ts'
import { Chart, type ChartProps } from './chart.ts'
import { Panel, Standing } from './small.ts'

type Picture<Sample> = Omit<ChartProps<Sample>, 'points' | 'rangeMs'>

const mebibyte = 1024 ** 2

const traffic: readonly Picture<HostSample | VmSample>[] = [
  {
    title: 'Disks',
    text: bytesPerSecond,
    least: mebibyte,
    isBytes: true,
    lines: [
      { label: 'read', pick: ({ diskReadBytesPerSecond }) => diskReadBytesPerSecond },
      { label: 'written', pick: ({ diskWriteBytesPerSecond }) => diskWriteBytesPerSecond }
    ]
  },
  {
    title: 'Network',
    text: bytesPerSecond,
    least: mebibyte,
    isBytes: true,
    lines: [
      { label: 'received', pick: ({ receiveBytesPerSecond }) => receiveBytesPerSecond },
      { label: 'sent', pick: ({ transmitBytesPerSecond }) => transmitBytesPerSecond }
    ]
  }
]

const hostCpu: Picture<HostSample> = {
  title: 'CPU',
  text: percent,
  max: 1,
  least: 1,
  lines: [
    { label: 'used', pick: ({ cpuUsedRatio }) => cpuUsedRatio },
    { label: 'stolen', pick: ({ cpuStealRatio }) => cpuStealRatio }
  ]
}
const hostMemoryLines: Picture<HostSample>['lines'] = [
  {
    label: 'used',
    pick: ({ memoryTotalBytes, memoryAvailableBytes }) => memoryTotalBytes - memoryAvailableBytes
  },
  { label: 'swap', pick: ({ swapUsedBytes }) => swapUsedBytes }
]
const vmCpuLines: Picture<VmSample>['lines'] = [{ label: 'cores', pick: ({ cpuCoresUsed }) => cpuCoresUsed }]
const vmMemoryLines: Picture<VmSample>['lines'] = [
  { label: 'of the host', pick: ({ memoryResidentBytes }) => memoryResidentBytes },
  {
    label: 'used inside',
    pick: ({ memoryMaximumBytes, memoryAvailableBytes }) =>
      memoryMaximumBytes === undefined || memoryAvailableBytes === undefined
        ? undefined
        : Math.max(0, memoryMaximumBytes - memoryAvailableBytes)
  }
]

export function HostCharts({ id, memoryBytes }: { id: string; memoryBytes: number | undefined }) {
  const memory = {
    title: 'Memory',
    text: bytes,
    max: memoryBytes,
    least: mebibyte,
    isBytes: true,
    lines: hostMemoryLines
  }
  return html`<${Charts} path=${`/v1/hosts/${encodeURIComponent(id)}/metrics`} pictures=${[hostCpu, memory, ...traffic]} />`
}

export function VmCharts({ name, cpus, memoryBytes }: { name: string; cpus: number; memoryBytes: number }) {
  const cpu = { title: 'CPU', text: cores, max: cpus, least: cpus, lines: vmCpuLines }
  const memory = {
    title: 'Memory',
    text: bytes,
    max: memoryBytes * 1.1,
    least: mebibyte,
    isBytes: true,
    lines: vmMemoryLines
  }
  return html`<${Charts} path=${`/v1/vms/${encodeURIComponent(name)}/metrics`} pictures=${[cpu, memory, ...traffic]} />`
}

function Charts<Sample>({ path, pictures }: { path: string; pictures: readonly Picture<Sample>[] }) {
  const [rangeMs, setRangeMs] = useState<number>(ranges[1].ms)
  const samples: Polled<readonly Point<Sample>[]> = useSamples<Sample>(path, rangeMs)
  const points = samples.data ?? []
  const choice = html`<div class="tabs" role="group" aria-label="Time shown">
    ${ranges.map(({ label, ms }) => html`<button key=${ms} aria-pressed=${ms === rangeMs} onClick=${() => setRangeMs(ms)}>${label}</button>`)}
  </div>`
  return html`<${Panel} title="Figures" aside=${choice}>
    <${Standing} of=${samples} />
    ${samples.data?.length === 0 && html`<p class="note faint">No samples of that time. They are taken every few seconds while it runs.</p>`}
    <div class="charts">
      ${pictures.map((picture) => html`<${Chart} key=${picture.title} ...${picture} points=${points} rangeMs=${rangeMs} />`)}
    </div>
  <//>`
}
