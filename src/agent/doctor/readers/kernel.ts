// What the kernel tells below /proc and /sys: swap, memory, processor, control groups, network.

import { readFile, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { runProcess } from '../../../lib/run-process.ts'
import type { NftObject } from '../../firewall/nft-json.ts'
import type { Wait } from '../../host/hypervisor.ts'
import type { BridgeFacts, FirewallFacts, SwapArea } from '../facts.ts'
import { isEncrypted } from './block-devices.ts'
import { namesIn, reasonOf, textOf } from './files.ts'

const programMs = 10_000
const rulesetBytesMax = 64 * 1024 ** 2

/** Sixteen hexadecimal pairs, index, prefix, scope, flags, device (proc_net(5), if_inet6). */
const addressLine = /^([0-9a-f]{32}) [0-9a-f]+ [0-9a-f]+ [0-9a-f]+ [0-9a-f]+ +(\S+)$/

export async function swapAreas(proc = '/proc'): Promise<SwapArea[]> {
  const [, ...lines] = (await readFile(join(proc, 'swaps'), 'utf8')).trim().split('\n')
  const names = lines.map((line) => line.split(/\s+/)[0] ?? '').filter((name) => name !== '')
  return await Promise.all(names.map(async (name) => ({ name, safe: await isSafeSwap(name) })))
}

/** A file lies on its file system's device; a device is one itself. */
async function isSafeSwap(name: string): Promise<boolean> {
  if (/^\/dev\/zram\d+$/.test(name)) return true
  const entry = await stat(name).catch(() => undefined)
  if (entry === undefined) return false
  return (await isEncrypted(entry.isBlockDevice() ? entry.rdev : entry.dev)) === true
}

/** Whether the kernel can, and knows where to. */
export async function canHibernate(sys = '/sys'): Promise<boolean> {
  const states = (await textOf(join(sys, 'power', 'state'))) ?? ''
  const resume = (await textOf(join(sys, 'power', 'resume'))) ?? '0:0'
  return states.split(/\s+/).includes('disk') && resume !== '0:0'
}

/** A file that holds 1 or Y, or does not. Throws what reading throws but for its absence. */
export async function isOn(path: string): Promise<boolean> {
  return /^[1Y]/.test((await textOf(path)) ?? '')
}

export async function isNested(sys = '/sys'): Promise<boolean> {
  const parameter = (module: string) => isOn(join(sys, 'module', module, 'parameters', 'nested'))
  return (await parameter('kvm_intel')) || (await parameter('kvm_amd'))
}

export async function securityModules(sys = '/sys'): Promise<string[]> {
  const listed = await textOf(join(sys, 'kernel', 'security', 'lsm'))
  if (listed !== undefined) return listed.split(',')
  return (await isOn(join(sys, 'module', 'apparmor', 'parameters', 'enabled'))) ? ['apparmor'] : []
}

/** Of either version; the first calls input and output `blkio`. */
export async function cgroupControllers(sys = '/sys'): Promise<string[]> {
  const root = join(sys, 'fs', 'cgroup')
  const unified = (await textOf(join(root, 'cgroup.controllers'))) ?? ''
  const first = (await namesIn(root)).flatMap((name) => name.split(','))
  return [...unified.split(' '), ...first].map((name) => (name === 'blkio' ? 'io' : name))
}

/** Version 2 has its list of controllers at the root; beside version 1 it lies in `unified`. */
export async function cgroupVersion(sys = '/sys'): Promise<'1' | '2' | 'both'> {
  const names = await namesIn(join(sys, 'fs', 'cgroup'))
  if (names.includes('cgroup.controllers')) return '2'
  return names.includes('unified') ? 'both' : '1'
}

export async function memoryBytes(proc = '/proc'): Promise<number> {
  const text = await readFile(join(proc, 'meminfo'), 'utf8')
  return Number(/^MemTotal:\s+(\d+)/m.exec(text)?.[1] ?? 0) * 1024
}

export async function openVulnerabilities(sys = '/sys'): Promise<string[]> {
  const directory = join(sys, 'devices', 'system', 'cpu', 'vulnerabilities')
  const names = await namesIn(directory)
  const found = await Promise.all(
    names.map(async (name) => ((await textOf(join(directory, name))) ?? '').startsWith('Vulnerable'))
  )
  return names.filter((_name, index) => found[index])
}

export async function hugePages(proc = '/proc'): Promise<{ total: number; free: number }> {
  const text = await readFile(join(proc, 'meminfo'), 'utf8')
  const count = (name: string) => Number(new RegExp(`^${name}:\\s+(\\d+)`, 'm').exec(text)?.[1] ?? 0)
  return { total: count('HugePages_Total'), free: count('HugePages_Free') }
}

/** Of the bridges whose names begin with one of the prefixes. */
export async function bridgesOf(prefixes: readonly string[], root = '/'): Promise<BridgeFacts[]> {
  const devices = await namesIn(join(root, 'sys', 'class', 'net'))
  const ours = devices.filter((name) => prefixes.some((prefix) => name.startsWith(prefix)))
  const addresses = (await textOf(join(root, 'proc', 'net', 'if_inet6'))) ?? ''
  return await Promise.all(
    ours.map(async (name) => {
      const setting = join(root, 'proc', 'sys', 'net', 'ipv6', 'conf', name, 'disable_ipv6')
      const disabled = await textOf(setting)
      const lines = addresses.split('\n').map((line) => addressLine.exec(line.trim()))
      return {
        name,
        // A kernel without IPv6 has no such setting.
        ipv6Disabled: disabled === undefined || disabled === '1',
        ipv6Addresses: lines.flatMap((line) => (line?.[2] === name && line[1] ? [line[1]] : []))
      }
    })
  )
}

export async function bridgeNetfilter(proc = '/proc'): Promise<boolean> {
  const directory = join(proc, 'sys', 'net', 'bridge')
  const settings = ['bridge-nf-call-iptables', 'bridge-nf-call-ip6tables', 'bridge-nf-call-arptables']
  const on = await Promise.all(settings.map((name) => isOn(join(directory, name))))
  return on.includes(true)
}

/** Throws where nft is absent or not permitted. */
export async function firewall(wait: Wait): Promise<FirewallFacts> {
  const options = { ...wait, deadlineMs: programMs, outputBytesMax: rulesetBytesMax }
  const { exitCode, stdout, stderr } = await runProcess('nft', ['-j', 'list', 'ruleset'], options)
  if (exitCode !== 0) throw new Error(`nft: ${stderr.trim().split('\n')[0]}`)
  const objects = (JSON.parse(stdout) as { nftables?: readonly NftObject[] }).nftables ?? []
  return { objects, tables: objects.flatMap(({ table }) => (table ? [`${table.family} ${table.name}`] : [])) }
}

/** Asks systemd; without it, whether a daemon that sets the clock says so. */
export async function clockSynchronised(wait: Wait): Promise<boolean> {
  const options = { ...wait, deadlineMs: programMs }
  try {
    const { exitCode, stdout } = await runProcess(
      'timedatectl',
      ['show', '-p', 'NTPSynchronized', '--value'],
      options
    )
    if (exitCode === 0) return stdout.trim() === 'yes'
  } catch (error) {
    wait.signal.throwIfAborted()
    throw new Error(`timedatectl: ${reasonOf(error)}`)
  }
  throw new Error('timedatectl cannot tell')
}

/** Accounts of /etc/passwd whose number a VM may get. */
export async function accountsBetween(first: number, last: number, etc = '/etc'): Promise<string[]> {
  const lines = (await readFile(join(etc, 'passwd'), 'utf8')).split('\n').map((line) => line.split(':'))
  return lines.flatMap(([name = '', , uid]) => (Number(uid) >= first && Number(uid) <= last ? [name] : []))
}
