// Reads the text of the kernel's /proc files into figures. Pure: text in, numbers out; what is missing is absent.

/** Ticks since boot of all CPUs together (proc(5), /proc/stat). Guest time is part of `user` and `nice` already. */
export interface CpuTicks {
  readonly idle: number
  readonly steal: number
  readonly total: number
}

export interface MemoryFigures {
  readonly totalBytes: number
  readonly availableBytes: number
  readonly swapUsedBytes: number
}

/** Bytes since the device appeared. */
export interface DeviceBytes {
  readonly readBytes: number
  readonly writtenBytes: number
}

export interface ProcessFigures {
  /** User and system time, in clock ticks. */
  readonly cpuTicks: number
  /** Ticks after boot at which the process started. */
  readonly startTicks: number
  readonly residentPages: number
}

/** diskstats counts in sectors of this size, whatever the device's own (kernel, Documentation/block/stat.rst). */
const sectorBytes = 512

export function parseStat(text: string): CpuTicks | undefined {
  const line = text.slice(0, text.indexOf('\n'))
  if (!line.startsWith('cpu ')) return undefined
  const [user = 0, nice = 0, system = 0, idle = 0, wait = 0, interrupt = 0, soft = 0, steal = 0] = numbers(
    line.slice(4)
  )
  const resting = idle + wait
  return { idle: resting, steal, total: user + nice + system + resting + interrupt + soft + steal }
}

export function parseMeminfo(text: string): MemoryFigures | undefined {
  const kibibytes = new Map<string, number>()
  for (const line of text.split('\n')) {
    const match = /^([A-Za-z_()0-9]+):\s+(\d+)/.exec(line)
    if (match?.[1] !== undefined) kibibytes.set(match[1], Number(match[2]))
  }
  const total = kibibytes.get('MemTotal')
  const available = kibibytes.get('MemAvailable')
  if (total === undefined || available === undefined) return undefined
  const swapUsed = (kibibytes.get('SwapTotal') ?? 0) - (kibibytes.get('SwapFree') ?? 0)
  return {
    totalBytes: total * 1024,
    availableBytes: available * 1024,
    swapUsedBytes: Math.max(0, swapUsed) * 1024
  }
}

/** The load average of the last minute. */
export function parseLoadavg(text: string): number | undefined {
  return firstNumber(text)
}

/** Seconds since boot. */
export function parseUptime(text: string): number | undefined {
  return firstNumber(text)
}

/** The share of the last 10 s in which some task stalled, 0 to 1 (kernel, Documentation/accounting/psi.rst). */
export function parsePressure(text: string): number | undefined {
  const match = /^some avg10=([0-9.]+)/m.exec(text)
  return match === null ? undefined : finite(Number(match[1]) / 100)
}

/** Received (`read`) and sent (`written`) bytes by interface. */
export function parseNetDev(text: string): Map<string, DeviceBytes> {
  const interfaces = new Map<string, DeviceBytes>()
  for (const line of text.split('\n')) {
    const colon = line.indexOf(':')
    if (colon < 0) continue
    const fields = numbers(line.slice(colon + 1))
    const [received, sent] = [fields[0], fields[8]]
    if (received === undefined || sent === undefined) continue
    interfaces.set(line.slice(0, colon).trim(), { readBytes: received, writtenBytes: sent })
  }
  return interfaces
}

/** Read and written bytes by block device, partitions included. */
export function parseDiskstats(text: string): Map<string, DeviceBytes> {
  const devices = new Map<string, DeviceBytes>()
  for (const line of text.split('\n')) {
    const fields = line.trim().split(/\s+/)
    const [name, read, written] = [fields[2], finite(Number(fields[5])), finite(Number(fields[9]))]
    if (name === undefined || read === undefined || written === undefined) continue
    devices.set(name, { readBytes: read * sectorBytes, writtenBytes: written * sectorBytes })
  }
  return devices
}

/** /proc/PID/stat. The command's name may hold spaces and brackets, so fields are counted from its last bracket. */
export function parseProcessStat(text: string): ProcessFigures | undefined {
  const fields = text
    .slice(text.lastIndexOf(')') + 1)
    .trim()
    .split(' ')
  const [user, system, start, pages] = [11, 12, 19, 21].map((index) => finite(Number(fields[index])))
  if (user === undefined || system === undefined || start === undefined || pages === undefined)
    return undefined
  return { cpuTicks: user + system, startTicks: start, residentPages: pages }
}

function numbers(text: string): number[] {
  return (text.match(/\S+/g) ?? []).map(Number).filter(Number.isFinite)
}

function firstNumber(text: string): number | undefined {
  return numbers(text.slice(0, 64))[0]
}

function finite(value: number): number | undefined {
  return Number.isFinite(value) ? value : undefined
}
