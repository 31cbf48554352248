// Turns two readings of counters and the time between them into rates. Pure; a counter that went back gives no rate.

import type { HostSample, VmSample } from '../../protocol/metrics.ts'
import type { DomainCounters } from '../host/hypervisor.ts'
import type { HostCounters } from './host-reader.ts'
import type { DeviceBytes } from './proc.ts'

/** A reading and the monotonic time at which it was taken. */
export interface Reading<Counters> {
  readonly atMs: number
  readonly counters: Counters
}

export interface PoolFigures {
  readonly poolCapacityBytes: number
  readonly poolAvailableBytes: number
}

/** Growth per second; undefined without a predecessor, without time between, or after a reset of the counter. */
export function rate(
  before: number | undefined,
  after: number | undefined,
  elapsedMs: number
): number | undefined {
  if (before === undefined || after === undefined || after < before || elapsedMs <= 0) return undefined
  return ((after - before) * 1_000) / elapsedMs
}

/** The host's figures between two readings. Rates of devices that came, went or were reset in between count as nothing. */
export function hostSample(
  before: Reading<HostCounters>,
  after: Reading<HostCounters>,
  pool: PoolFigures
): HostSample {
  const { counters } = after
  const elapsedMs = after.atMs - before.atMs
  const network = deviceRates(before.counters.interfaces, counters.interfaces, elapsedMs)
  const disk = deviceRates(before.counters.disks, counters.disks, elapsedMs)
  return {
    ...cpuRatios(before.counters, counters),
    loadAverage1m: counters.loadAverage1m,
    memoryTotalBytes: counters.memory.totalBytes,
    memoryAvailableBytes: counters.memory.availableBytes,
    swapUsedBytes: counters.memory.swapUsedBytes,
    ...present({
      cpuPressureRatio: counters.cpuPressureRatio,
      memoryPressureRatio: counters.memoryPressureRatio,
      ioPressureRatio: counters.ioPressureRatio
    }),
    ...pool,
    receiveBytesTotal: sum(counters.interfaces, 'readBytes'),
    transmitBytesTotal: sum(counters.interfaces, 'writtenBytes'),
    receiveBytesPerSecond: network.readBytesPerSecond,
    transmitBytesPerSecond: network.writtenBytesPerSecond,
    diskReadBytesPerSecond: disk.readBytesPerSecond,
    diskWriteBytesPerSecond: disk.writtenBytesPerSecond,
    uptimeSeconds: counters.uptimeSeconds,
    cpuSecondsTotal: busyTicks(counters) / ticksPerSecond,
    diskReadBytesTotal: sum(counters.disks, 'readBytes'),
    diskWriteBytesTotal: sum(counters.disks, 'writtenBytes')
  }
}

/** One VM's figures; without a predecessor, or when the VM was restarted in between, totals only. */
export function vmSample(
  before: Reading<DomainCounters> | undefined,
  after: Reading<DomainCounters>
): VmSample {
  const { counters } = after
  const elapsedMs = before === undefined ? 0 : after.atMs - before.atMs
  const previous = before === undefined || restarted(before.counters, counters) ? undefined : before.counters
  const per = (key: CounterName) => rate(previous?.[key], counters[key], elapsedMs)
  return {
    name: counters.name,
    uuid: counters.uuid,
    state: counters.state,
    ...present({
      cpuSecondsTotal: scaled(counters.cpuNanoseconds, 1e-9),
      cpuCoresUsed: scaled(per('cpuNanoseconds'), 1e-9),
      memoryMaximumBytes: counters.memoryMaximumBytes,
      memoryResidentBytes: counters.memoryResidentBytes,
      memoryAvailableBytes: counters.memoryAvailableBytes,
      diskCapacityBytes: counters.diskCapacityBytes,
      diskAllocationBytes: counters.diskAllocationBytes,
      diskReadBytesTotal: counters.diskReadBytes,
      diskWriteBytesTotal: counters.diskWriteBytes,
      diskReadBytesPerSecond: per('diskReadBytes'),
      diskWriteBytesPerSecond: per('diskWriteBytes'),
      diskReadsPerSecond: per('diskReads'),
      diskWritesPerSecond: per('diskWrites'),
      receiveBytesTotal: counters.receiveBytes,
      transmitBytesTotal: counters.transmitBytes,
      receiveBytesPerSecond: per('receiveBytes'),
      transmitBytesPerSecond: per('transmitBytes'),
      diskReadsTotal: counters.diskReads,
      diskWritesTotal: counters.diskWrites,
      receivePacketsTotal: counters.receivePackets,
      transmitPacketsTotal: counters.transmitPackets,
      receiveDropsTotal: counters.receiveDrops,
      transmitDropsTotal: counters.transmitDrops
    })
  }
}

type CounterName =
  | 'cpuNanoseconds'
  | 'diskReadBytes'
  | 'diskWriteBytes'
  | 'diskReads'
  | 'diskWrites'
  | 'receiveBytes'
  | 'transmitBytes'

/** All of a domain's counters begin anew with its QEMU; CPU time is the one that never stands still. */
function restarted(before: DomainCounters, after: DomainCounters): boolean {
  const [was, is] = [before.cpuNanoseconds, after.cpuNanoseconds]
  return was !== undefined && is !== undefined && is < was
}

/** Steal is time that a hypervisor below took: neither used nor idle, so it stands apart. */
function cpuRatios(before: HostCounters, after: HostCounters) {
  const total = after.cpu.total - before.cpu.total
  if (total <= 0) return { cpuUsedRatio: 0, cpuStealRatio: 0 }
  // The kernel may correct idle and wait times downwards.
  const share = (ticks: number) => Math.min(1, Math.max(0, ticks / total))
  const idle = share(after.cpu.idle - before.cpu.idle)
  const steal = share(after.cpu.steal - before.cpu.steal)
  return { cpuUsedRatio: Math.max(0, 1 - idle - steal), cpuStealRatio: steal }
}

/** Of /proc/stat: USER_HZ, which is 100 on every architecture that hostlet runs on. */
const ticksPerSecond = 100

/** The kernel may correct idle times downwards; a counter must not go below nothing. */
function busyTicks({ cpu }: HostCounters): number {
  return Math.max(0, cpu.total - cpu.idle - cpu.steal)
}

type Devices = ReadonlyMap<string, DeviceBytes>

function deviceRates(before: Devices, after: Devices, elapsedMs: number) {
  let readBytesPerSecond = 0
  let writtenBytesPerSecond = 0
  for (const [name, device] of after) {
    const previous = before.get(name)
    readBytesPerSecond += rate(previous?.readBytes, device.readBytes, elapsedMs) ?? 0
    writtenBytesPerSecond += rate(previous?.writtenBytes, device.writtenBytes, elapsedMs) ?? 0
  }
  return { readBytesPerSecond, writtenBytesPerSecond }
}

function sum(devices: Devices, key: keyof DeviceBytes): number {
  let total = 0
  for (const device of devices.values()) total += device[key]
  return total
}

function scaled(value: number | undefined, factor: number): number | undefined {
  return value === undefined ? undefined : value * factor
}

type Present<Fields> = { [Key in keyof Fields]?: Exclude<Fields[Key], undefined> }

function present<Fields extends Record<string, unknown>>(fields: Fields): Present<Fields> {
  return Object.fromEntries(
    Object.entries(fields).filter(([, value]) => value !== undefined)
  ) as Present<Fields>
}
