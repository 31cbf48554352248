// The metrics that an agent sends: one sample a round, with the host's figures and every VM's. Units are in the names.

import { type Static, Type } from '../lib/schema.ts'
import { Bytes, strict, Timestamp, Uuid, VmName } from './names.ts'
import { VmState } from './vm.ts'

const Ratio = Type.Number({ minimum: 0 })
const Rate = Type.Number({ minimum: 0 })
const Total = Type.Number({ minimum: 0 })

const Traffic = {
  receiveBytesTotal: Total,
  transmitBytesTotal: Total,
  receiveBytesPerSecond: Rate,
  transmitBytesPerSecond: Rate
}

/** Figures of the host. `…Ratio` is 0 to 1 of the whole host; pressure is the share of the last 10 s that tasks stalled. */
export const HostSample = Type.Object(
  {
    cpuUsedRatio: Ratio,
    cpuStealRatio: Ratio,
    loadAverage1m: Type.Number({ minimum: 0 }),
    memoryTotalBytes: Bytes,
    memoryAvailableBytes: Bytes,
    swapUsedBytes: Bytes,
    cpuPressureRatio: Type.Optional(Ratio),
    memoryPressureRatio: Type.Optional(Ratio),
    ioPressureRatio: Type.Optional(Ratio),
    poolCapacityBytes: Bytes,
    poolAvailableBytes: Bytes,
    ...Traffic,
    diskReadBytesPerSecond: Rate,
    diskWriteBytesPerSecond: Rate,
    uptimeSeconds: Type.Number({ minimum: 0 }),
    /** CPU time of all CPUs since boot that was neither idle nor stolen. From here on absent from older agents. */
    cpuSecondsTotal: Type.Optional(Total),
    diskReadBytesTotal: Type.Optional(Total),
    diskWriteBytesTotal: Type.Optional(Total)
  },
  strict
)
export type HostSample = Static<typeof HostSample>

/** Figures of one VM. Rates are absent in the first sample of a VM, and when its figures could not be read in time. */
export const VmSample = Type.Object(
  {
    name: VmName,
    uuid: Uuid,
    state: VmState,
    /** CPU time since the VM started. */
    cpuSecondsTotal: Type.Optional(Total),
    /** Cores in use: 1.5 means one and a half cores busy. */
    cpuCoresUsed: Type.Optional(Rate),
    memoryMaximumBytes: Type.Optional(Bytes),
    /** What the host spends on the guest's process now. */
    memoryResidentBytes: Type.Optional(Bytes),
    /** What the guest itself says is free; only with a balloon driver in the guest. */
    memoryAvailableBytes: Type.Optional(Bytes),
    diskCapacityBytes: Type.Optional(Bytes),
    diskAllocationBytes: Type.Optional(Bytes),
    diskReadBytesTotal: Type.Optional(Total),
    diskWriteBytesTotal: Type.Optional(Total),
    diskReadBytesPerSecond: Type.Optional(Rate),
    diskWriteBytesPerSecond: Type.Optional(Rate),
    diskReadsPerSecond: Type.Optional(Rate),
    diskWritesPerSecond: Type.Optional(Rate),
    receiveBytesTotal: Type.Optional(Total),
    transmitBytesTotal: Type.Optional(Total),
    receiveBytesPerSecond: Type.Optional(Rate),
    transmitBytesPerSecond: Type.Optional(Rate),
    uptimeSeconds: Type.Optional(Type.Number({ minimum: 0 })),
    /** Since the VM started. From here on absent from older agents. */
    diskReadsTotal: Type.Optional(Total),
    diskWritesTotal: Type.Optional(Total),
    receivePacketsTotal: Type.Optional(Total),
    transmitPacketsTotal: Type.Optional(Total),
    receiveDropsTotal: Type.Optional(Total),
    transmitDropsTotal: Type.Optional(Total)
  },
  strict
)
export type VmSample = Static<typeof VmSample>

export const vmSamplesMax = 16_384

/** One round of sampling. `at` is the agent's clock; a sample sent late keeps the time at which it was taken. */
export const MetricsSample = Type.Object(
  { at: Timestamp, host: HostSample, vms: Type.Array(VmSample, { maxItems: vmSamplesMax }) },
  strict
)
export type MetricsSample = Static<typeof MetricsSample>
