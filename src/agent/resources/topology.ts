// The processors of the host as the kernel lists them: which are online, and which of them are threads of one core.

import { readFile } from 'node:fs/promises'
import { availableParallelism } from 'node:os'
import { join } from 'node:path'

/** Each core with the numbers of its online threads, ascending; cores by their first thread. */
export type Topology = readonly (readonly number[])[]

const cpusMax = 8_192
const root = '/sys/devices/system/cpu'

/** Where the kernel does not tell of threads, each processor counts as a core. */
export async function readTopology(directory: string = root): Promise<Topology> {
  const listed = parseCpuList(await readOr(join(directory, 'online'), ''))
  const online = listed.length > 0 ? listed : Array.from({ length: availableParallelism() }, (_, cpu) => cpu)
  const siblings = online.map(async (cpu) => {
    const path = join(directory, `cpu${cpu}`, 'topology', 'thread_siblings_list')
    return parseCpuList(await readOr(path, String(cpu)))
  })
  return coresOf(online, await Promise.all(siblings))
}

/** `siblings` by position in `online`. A thread that is offline belongs to no core. */
export function coresOf(online: readonly number[], siblings: readonly (readonly number[])[]): Topology {
  const seen = new Set<number>()
  const cores: number[][] = []
  for (const [index, cpu] of online.entries()) {
    if (seen.has(cpu)) continue
    const others = siblings[index] ?? []
    const core = online.filter((other) => other === cpu || (others.includes(other) && !seen.has(other)))
    for (const each of core) seen.add(each)
    cores.push(core)
  }
  return cores
}

/** `0-3,8` as the kernel and libvirt write it. What is not understood is left out. */
export function parseCpuList(text: string): number[] {
  const cpus = new Set<number>()
  for (const part of text.trim().split(',')) {
    const match = /^(\d{1,5})(?:-(\d{1,5}))?$/.exec(part.trim())
    if (match === null) continue
    const first = Number(match[1])
    const last = Math.min(Number(match[2] ?? first), cpusMax - 1)
    for (let cpu = first; cpu <= last; cpu++) cpus.add(cpu)
  }
  return [...cpus].toSorted((left, right) => left - right)
}

export function cpuListText(cpus: readonly number[]): string {
  return [...new Set(cpus)].toSorted((left, right) => left - right).join(',')
}

async function readOr(path: string, otherwise: string): Promise<string> {
  try {
    return await readFile(path, 'utf8')
  } catch {
    return otherwise
  }
}
