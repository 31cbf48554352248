// What tests must not leave on the machine: libvirt's objects, firewall tables, network devices and namespaces, processes.
import { execFile } from 'node:child_process'
import { readdir, readFile, readlink } from 'node:fs/promises'
import { setTimeout as sleep } from 'node:timers/promises'
import { promisify } from 'node:util'

const COMMAND_TIMEOUT_MS = 20_000
/** libvirt and QEMU take a moment to take down taps and processes after the call that ended them has returned. */
const GRACE_MS = 10_000
const POLL_MS = 250

/** Things of the machine, each by kind and name: `domain web-1`. */
export type Snapshot = ReadonlySet<string>

const virshLists: Record<string, readonly string[]> = {
  domain: ['list', '--all', '--name'],
  pool: ['pool-list', '--all', '--name'],
  network: ['net-list', '--all', '--name'],
  secret: ['secret-list']
}

const daemons =
  /^(qemu-system-.+|qemu-nbd|dnsmasq|libvirtd|virtlogd|virtqemud|swtpm|nbdkit|ceph-mon|ceph-osd|radosgw)$/

// libvirt makes these itself, through iptables and ebtables, for the first network or filter that needs them, and keeps
// them.
const isOfLibvirt = (table: string) => /^table (ip|ip6|bridge) (filter|nat|mangle|broute)$/.test(table)

export async function machineSnapshot(): Promise<Snapshot> {
  const lists = await Promise.all([
    ...Object.keys(virshLists).map(virshNames),
    nftTables(),
    networkNames(),
    daemonNames()
  ])
  return new Set(lists.flat())
}

/** Waits until nothing is there that was not there before, or the grace time is over; returns what is left. */
export async function waitForNoLeaks(before: Snapshot): Promise<string[]> {
  const deadline = performance.now() + GRACE_MS
  for (;;) {
    const leaks = newIn(before, await machineSnapshot())
    if (leaks.length === 0 || performance.now() > deadline) return leaks
    await sleep(POLL_MS)
  }
}

/** What the later snapshot has and the earlier one lacks, sorted. */
export function newIn(before: Snapshot, after: Snapshot): string[] {
  return [...after].filter((thing) => !before.has(thing)).sort()
}

async function virshNames(kind: string): Promise<string[]> {
  const lines = await linesOf('virsh', ['-q', '-c', 'qemu:///system', ...(virshLists[kind] ?? [])])
  return lines.map((line) => `${kind} ${line.trim().split(/\s+/)[0]}`)
}

async function nftTables(): Promise<string[]> {
  const lines = await linesOf('nft', ['list', 'tables'])
  return lines.filter((line) => !isOfLibvirt(line)).map((line) => `nft ${line}`)
}

async function networkNames(): Promise<string[]> {
  const devices = await namesIn('/sys/class/net')
  const namespaces = await namesIn('/run/netns')
  return [...devices.map((name) => `device ${name}`), ...namespaces.map((name) => `namespace ${name}`)]
}

async function daemonNames(): Promise<string[]> {
  const pids = (await namesIn('/proc')).filter((name) => /^\d+$/.test(name))
  const names = await Promise.all(pids.map(daemonName))
  return names.filter((name) => name !== undefined)
}

async function daemonName(pid: string): Promise<string | undefined> {
  try {
    const command = (await readlink(`/proc/${pid}/exe`)).split('/').at(-1)?.replace(' (deleted)', '') ?? ''
    if (!daemons.test(command)) return undefined
    const args = (await readFile(`/proc/${pid}/cmdline`, 'utf8')).split('\0')
    const guest = args.find((arg) => arg.startsWith('guest=') || arg.startsWith('--conf-file='))
    return `process ${pid} ${command}${guest ? ` ${guest.split(',')[0]}` : ''}`
  } catch {
    // The process is gone, or a kernel thread: neither is a leak.
    return undefined
  }
}

// A tool or a daemon that is not here holds nothing that could leak.
async function linesOf(command: string, args: readonly string[]): Promise<string[]> {
  try {
    const { stdout } = await promisify(execFile)(command, args, { timeout: COMMAND_TIMEOUT_MS })
    return stdout.split('\n').filter((line) => line.trim() !== '')
  } catch {
    return []
  }
}

async function namesIn(directory: string): Promise<string[]> {
  return await readdir(directory).catch(() => [])
}
