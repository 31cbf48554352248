// What the kernel says of a VM's QEMU: everything here can be read by any user who may see the process, and needs no rights over it.

import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'

export interface ProcessFacts {
  readonly pid: number
  /** Real, effective, saved and file system user. */
  readonly uids: readonly number[]
  /** Other processes with this user: another VM's, or a helper's. */
  readonly sameUser: readonly number[]
  readonly effectiveCapabilities: string
  readonly noNewPrivileges: boolean
  /** 0 none, 1 strict, 2 filters. */
  readonly seccomp: number
  /** QEMU's own argument, `on,obsolete=deny,…`. */
  readonly sandbox: string | undefined
  /** Whether it has mounts of its own; undefined where the host's cannot be read. */
  readonly ownMounts: boolean | undefined
  /** AppArmor's or SELinux's label; undefined where the kernel has neither. */
  readonly label: string | undefined
  readonly coreLimit: string
  readonly processLimit: string
  /** Processes that its control group may have; undefined where that cannot be told. */
  readonly groupProcessLimit: string | undefined
  /** Sockets of its user that listen: `tcp 0.0.0.0:5900`. */
  readonly listening: readonly string[]
}

/** Why there are no facts. */
export type Missing = 'hidden' | 'none'

const socketFiles = ['tcp', 'tcp6', 'udp', 'udp6'] as const
/** States of proc_net: a TCP socket that listens; a UDP socket without a peer. */
const listeningStates: Readonly<Record<string, string>> = { tcp: '0A', tcp6: '0A', udp: '07', udp6: '07' }

/** The process of the VM with this UUID, by QEMU's argument. `hidden`: this user is shown no processes but its own. */
export async function readProcess(uuid: string, proc = '/proc'): Promise<ProcessFacts | Missing> {
  const pids = (await readdir(proc)).filter((name) => /^\d+$/.test(name)).map(Number)
  const found = await findProcess(uuid, pids, proc)
  if (found === undefined) return pids.includes(1) ? 'none' : 'hidden'
  const { pid, args } = found
  const status = parseStatus(await readFile(join(proc, String(pid), 'status'), 'utf8'))
  const limits = await readFile(join(proc, String(pid), 'limits'), 'utf8').catch(() => '')
  const uids = (status.Uid ?? '').split(/\s+/).map(Number)
  return {
    pid,
    uids,
    sameUser: await usersOf(
      uids[0] ?? -1,
      pids.filter((each) => each !== pid),
      proc
    ),
    effectiveCapabilities: status.CapEff ?? '',
    noNewPrivileges: status.NoNewPrivs === '1',
    seccomp: Number(status.Seccomp ?? 0),
    sandbox: argumentOf(args, '-sandbox'),
    ownMounts: await ownMounts(pid, proc),
    label: await labelOf(pid, proc),
    coreLimit: limitIn(limits, 'Max core file size'),
    processLimit: limitIn(limits, 'Max processes'),
    groupProcessLimit: await groupLimit(pid, proc),
    listening: await listeningOf(uids[0] ?? -1, proc)
  }
}

async function findProcess(uuid: string, pids: readonly number[], proc: string) {
  for (const pid of pids) {
    const text = await readFile(join(proc, String(pid), 'cmdline'), 'utf8').catch(() => '')
    if (!text.includes(uuid)) continue
    const args = text.split('\0')
    if (argumentOf(args, '-uuid') === uuid) return { pid, args }
  }
  return undefined
}

function argumentOf(args: readonly string[], name: string): string | undefined {
  const at = args.indexOf(name)
  return at === -1 ? undefined : args[at + 1]
}

async function usersOf(uid: number, pids: readonly number[], proc: string): Promise<number[]> {
  const found: number[] = []
  for (const pid of pids) {
    const text = await readFile(join(proc, String(pid), 'status'), 'utf8').catch(() => '')
    if (Number((parseStatus(text).Uid ?? '').split(/\s+/)[0]) === uid && text !== '') found.push(pid)
  }
  return found
}

function parseStatus(text: string): Readonly<Record<string, string>> {
  return Object.fromEntries(
    [...text.matchAll(/^(\w+):\s*(.*)$/gm)].map(([, key = '', value = '']) => [key, value])
  )
}

/** Mounts have numbers of their own in each namespace, so no two share any. */
async function ownMounts(pid: number, proc: string): Promise<boolean | undefined> {
  const read = async (id: number) => {
    const text = await readFile(join(proc, String(id), 'mountinfo'), 'utf8').catch(() => '')
    return text.split('\n').flatMap((line) => (line === '' ? [] : [line.split(' ')[0] ?? '']))
  }
  const [own, hosts] = await Promise.all([read(pid), read(1)])
  if (own.length === 0 || hosts.length === 0) return undefined
  return !own.some((id) => hosts.includes(id))
}

async function labelOf(pid: number, proc: string): Promise<string | undefined> {
  const text = await readFile(join(proc, String(pid), 'attr', 'current'), 'utf8').catch(() => '')
  const label = text.replaceAll('\0', '').trim()
  return label === '' ? undefined : label
}

/** The soft limit, which is the one that counts. */
function limitIn(text: string, name: string): string {
  return new RegExp(`^${name}\\s+(\\S+)`, 'm').exec(text)?.[1] ?? 'unknown'
}

/** The nearest limit on the way up from its group, in either version of control groups. */
async function groupLimit(pid: number, proc: string, sys = '/sys/fs/cgroup'): Promise<string | undefined> {
  const text = await readFile(join(proc, String(pid), 'cgroup'), 'utf8').catch(() => '')
  const lines = text.split('\n').map((line) => line.split(':'))
  const unified = lines.find(([id, controllers]) => id === '0' && controllers === '')?.[2]
  const first = lines.find(([, controllers]) => controllers?.split(',').includes('pids'))?.[2]
  const path = first === undefined ? unified : `/pids${first}`
  for (let at = path ?? '/'; at !== '/' && at !== '/pids/'; at = at.slice(0, at.lastIndexOf('/')) || '/') {
    const limit = (await readFile(join(sys, at, 'pids.max'), 'utf8').catch(() => '')).trim()
    if (limit !== '' && limit !== 'max') return limit
  }
  return undefined
}

async function listeningOf(uid: number, proc: string): Promise<string[]> {
  const found = await Promise.all(
    socketFiles.map(async (name) => {
      const text = await readFile(join(proc, 'net', name), 'utf8').catch(() => '')
      return text
        .split('\n')
        .slice(1)
        .map((line) => line.trim().split(/\s+/))
        .filter((fields) => fields[3] === listeningStates[name] && Number(fields[7]) === uid)
        .map((fields) => `${name} port ${Number.parseInt((fields[1] ?? '').split(':')[1] ?? '', 16)}`)
    })
  )
  return found.flat()
}
