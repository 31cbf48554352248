// Which controllers of the kernel's control groups libvirt finds on this host, and of which version.

import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'

export interface Cgroups {
  readonly version: 1 | 2
  readonly cpu: boolean
  readonly memory: boolean
}

const root = '/sys/fs/cgroup'
/** libvirt's own default of a machine in each version: here that of one vCPU. */
const weightPerCpu = { 1: 1_024, 2: 100 } as const
/** The most that the kernel takes. */
const weightMax = { 1: 262_144, 2: 10_000 } as const

export function readCgroups(directory: string = root): Cgroups {
  const unified = controllersIn(directory)
  if (unified !== undefined) return { version: 2, cpu: unified.has('cpu'), memory: unified.has('memory') }
  const mounted = (...names: string[]) =>
    names.some((name) => existsSync(join(directory, name, 'cgroup.procs')))
  return { version: 1, cpu: mounted('cpu', 'cpu,cpuacct', 'cpuacct,cpu'), memory: mounted('memory') }
}

/** Undefined where the hierarchy is not the unified one. */
function controllersIn(directory: string): ReadonlySet<string> | undefined {
  const path = join(directory, 'cgroup.controllers')
  if (!existsSync(path)) return undefined
  return new Set(readFileSync(path, 'utf8').trim().split(/\s+/))
}

/** What counts when processors are short: each vCPU weighs the same, whoever's it is. */
export function cpuWeight(cpus: number, { version }: Cgroups): number {
  return Math.min(cpus * weightPerCpu[version], weightMax[version])
}
