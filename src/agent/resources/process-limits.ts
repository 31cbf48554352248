// What keeps a running QEMU from making processes and taking memory, as the kernel tells of it.

import { readFile } from 'node:fs/promises'
import { join } from 'node:path'

export interface ProcessLimits {
  /** Threads and processes of the VM's user, its own QEMU's threads included; null: no limit. */
  readonly processesMax: number | null
  /** Threads that it has now. */
  readonly threads: number
  /** `filter`: system calls are filtered, and with libvirt's sandbox no other program can be started. */
  readonly seccomp: 'off' | 'strict' | 'filter'
  readonly noNewPrivileges: boolean
  readonly lockedBytesMax: number | null
  readonly coreBytesMax: number | null
  /** Processors that its first thread may run on. */
  readonly cpus: string
}

const seccompModes = ['off', 'strict', 'filter'] as const

/** Throws what reading /proc throws: ENOENT when the process is gone. */
export async function processLimitsOf(pid: number, proc = '/proc'): Promise<ProcessLimits> {
  const directory = join(proc, String(pid))
  const [limits, status] = await Promise.all(
    ['limits', 'status'].map((name) => readFile(join(directory, name), 'utf8'))
  )
  return parseProcessLimits(limits ?? '', status ?? '')
}

export function parseProcessLimits(limits: string, status: string): ProcessLimits {
  const field = (name: string) => new RegExp(`^${name}:\\s*(.*)$`, 'm').exec(status)?.[1]?.trim() ?? ''
  return {
    processesMax: limitIn(limits, 'Max processes'),
    threads: Number(field('Threads')),
    seccomp: seccompModes[Number(field('Seccomp'))] ?? 'off',
    noNewPrivileges: field('NoNewPrivs') === '1',
    lockedBytesMax: limitIn(limits, 'Max locked memory'),
    coreBytesMax: limitIn(limits, 'Max core file size'),
    cpus: field('Cpus_allowed_list')
  }
}

/** The hard limit: the third column. */
function limitIn(limits: string, name: string): number | null {
  const hard = new RegExp(`^${name}\\s+\\S+\\s+(\\S+)`, 'm').exec(limits)?.[1]
  return hard === undefined || hard === 'unlimited' ? null : Number(hard)
}
