// Reads the host's counters from /proc and /sys in one go: no process is spawned, and nothing is kept between calls.

import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import {
  type CpuTicks,
  type DeviceBytes,
  type MemoryFigures,
  parseDiskstats,
  parseLoadavg,
  parseMeminfo,
  parseNetDev,
  parsePressure,
  parseStat,
  parseUptime
} from './proc.ts'

/** The host's counters and levels at one moment. Pressure is absent on kernels without PSI. */
export interface HostCounters {
  readonly cpu: CpuTicks
  readonly memory: MemoryFigures
  readonly loadAverage1m: number
  readonly uptimeSeconds: number
  readonly cpuPressureRatio: number | undefined
  readonly memoryPressureRatio: number | undefined
  readonly ioPressureRatio: number | undefined
  readonly interfaces: ReadonlyMap<string, DeviceBytes>
  readonly disks: ReadonlyMap<string, DeviceBytes>
}

const noCpu: CpuTicks = { idle: 0, steal: 0, total: 0 }
const noMemory: MemoryFigures = { totalBytes: 0, availableBytes: 0, swapUsedBytes: 0 }

/**
 * Reads synchronously: these files live in memory, and a detour through libuv's pool costs more than the read itself.
 * A file that cannot be read leaves its figures at zero or absent; a sample with gaps beats none.
 *
 * @param root where proc and sys lie; "/" but for tests.
 */
export function readHostCounters(root = '/'): HostCounters {
  const text = (path: string) => readText(join(root, 'proc', path))
  return {
    cpu: parseStat(text('stat')) ?? noCpu,
    memory: parseMeminfo(text('meminfo')) ?? noMemory,
    loadAverage1m: parseLoadavg(text('loadavg')) ?? 0,
    uptimeSeconds: parseUptime(text('uptime')) ?? 0,
    cpuPressureRatio: parsePressure(text('pressure/cpu')),
    memoryPressureRatio: parsePressure(text('pressure/memory')),
    ioPressureRatio: parsePressure(text('pressure/io')),
    interfaces: hardwareOnly(parseNetDev(text('net/dev')), join(root, 'sys/class/net'), ['lo']),
    disks: hardwareOnly(parseDiskstats(text('diskstats')), join(root, 'sys/block'), [])
  }
}

/**
 * Only devices with hardware below them: bridges, taps, bonds, partitions and mapped disks would count the same bytes
 * again. Where there is none at all (a container), everything but `never` counts.
 */
function hardwareOnly(
  devices: ReadonlyMap<string, DeviceBytes>,
  directory: string,
  never: readonly string[]
): ReadonlyMap<string, DeviceBytes> {
  const hardware = new Map([...devices].filter(([name]) => existsSync(join(directory, name, 'device'))))
  return hardware.size > 0 ? hardware : new Map([...devices].filter(([name]) => !never.includes(name)))
}

function readText(path: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    // Absent by kernel option or container: its parser answers "absent" to the empty text.
    return ''
  }
}
