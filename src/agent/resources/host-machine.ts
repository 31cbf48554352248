// What the machine under the agent has to give: cores, memory, huge pages.

import { readFile } from 'node:fs/promises'
import { totalmem } from 'node:os'
import { readTopology, type Topology } from './topology.ts'

export interface HugePages {
  /** Set aside, of the kernel's usual size. */
  readonly totalBytes: number
  readonly freeBytes: number
}

export interface HostMachine {
  topology(): Promise<Topology>
  memoryBytes(): number
  hugePages(): Promise<HugePages>
}

export const thisMachine: HostMachine = {
  topology: () => readTopology(),
  memoryBytes: totalmem,
  hugePages: async () => hugePagesIn(await readFile('/proc/meminfo', 'utf8').catch(() => ''))
}

/** None where the kernel has none. */
export function hugePagesIn(meminfo: string): HugePages {
  const field = (name: string) => Number(new RegExp(`^${name}:\\s+(\\d+)`, 'm').exec(meminfo)?.[1] ?? 0)
  const pageBytes = field('Hugepagesize') * 1024
  return {
    totalBytes: field('HugePages_Total') * pageBytes,
    freeBytes: Math.max(0, field('HugePages_Free') - field('HugePages_Rsvd')) * pageBytes
  }
}
