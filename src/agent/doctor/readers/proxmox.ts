// Proxmox VE's own files, as its manual describes them: /etc/pve, /etc/network/interfaces, and what is installed.

import { readFile, stat } from 'node:fs/promises'
import { join } from 'node:path'
import type { ProxmoxFacts, PveFirewall, PveGuest, PveInterface, PveStorage } from '../proxmox-facts.ts'
import { namesIn, textOf } from './files.ts'

const packagesOfInterest = ['proxmox-ve', 'pve-manager', 'pve-qemu-kvm', 'qemu-system-x86', 'qemu-utils']
const mebibyte = 1024 ** 2
/** Of a guest whose file does not say (qm.conf(5), pct.conf(5)). */
const memoryMebibytesDefault = 512

/** Null on a host without it. Throws where /etc/pve cannot be read. */
export async function proxmoxFacts(root = '/'): Promise<ProxmoxFacts | null> {
  const packages = installed((await textOf(join(root, 'var/lib/dpkg/status'))) ?? '')
  const hasCluster = await stat(join(root, 'etc/pve')).catch(() => undefined)
  if (packages['pve-manager'] === undefined && packages['pve-qemu-kvm'] === undefined) return null
  if (hasCluster === undefined) throw new Error('/etc/pve is not there: is pve-cluster running?')
  const text = async (path: string) => (await textOf(join(root, path))) ?? ''
  return {
    version: packages['pve-manager'] ?? 'unknown',
    packages,
    storages: parseStorages(await text('etc/pve/storage.cfg')),
    guests: [
      ...(await guests(join(root, 'etc/pve/qemu-server'), 'qemu')),
      ...(await guests(join(root, 'etc/pve/lxc'), 'lxc'))
    ],
    interfaces: parseInterfaces(await interfacesText(root)),
    firewall: parseFirewall(await text('etc/pve/firewall/cluster.fw'), await text('etc/pve/local/host.fw')),
    haResources: [...(await text('etc/pve/ha/resources.cfg')).matchAll(/^(?:vm|ct):\s*(\d+)/gm)].map(
      ([, id = '']) => id
    ),
    arcBytesMax: Number(/^c_max\s+\d+\s+(\d+)/m.exec(await text('proc/spl/kstat/zfs/arcstats'))?.[1] ?? 0)
  }
}

/** `type: id`, and a line for each property, indented (storage.cfg). */
export function parseStorages(text: string): PveStorage[] {
  return sections(text).flatMap(({ head, properties }) => {
    const [, type, id] = /^([a-z]+):\s*(\S+)$/.exec(head) ?? []
    if (type === undefined || id === undefined) return []
    const { path, content = '' } = properties
    return [{ type, id, content: content.split(',').filter(Boolean), ...(path !== undefined && { path }) }]
  })
}

/** `key: value` a line; what follows a section in brackets is of a snapshot, or pending. */
export function parseGuest(vmid: number, kind: PveGuest['kind'], text: string): PveGuest {
  const [current = ''] = text.split(/^\[/m)
  const values = Object.fromEntries(
    [...current.matchAll(/^([a-z]+\d*):\s*(.*)$/gm)].map(([, key = '', value = '']) => [key, value.trim()])
  )
  const nets = Object.entries(values).filter(([key]) => /^net\d+$/.test(key))
  return {
    vmid,
    kind,
    // Newer files say `current=2048,…`.
    memoryBytes: Number(/(\d+)/.exec(values.memory ?? '')?.[1] ?? memoryMebibytesDefault) * mebibyte,
    startsAtBoot: values.onboot === '1',
    bridges: nets.flatMap(([, value]) => /(?:^|,)bridge=([^,\s]+)/.exec(value)?.[1] ?? [])
  }
}

/** interfaces(5), with the words of bridge-utils-interfaces(5) by dash or underscore. */
export function parseInterfaces(text: string): PveInterface[] {
  const stanzas = new Map<string, Record<string, string>>()
  let options: Record<string, string> | undefined
  for (const line of text.split('\n').map((each) => each.replace(/#.*$/, '').trim())) {
    const [word = '', ...rest] = line.split(/\s+/)
    if (word === 'iface') {
      const name = rest[0] ?? ''
      options = stanzas.get(name) ?? {}
      if (rest[1] !== 'inet6') stanzas.set(name, options)
      else options = {}
    } else if (/^(auto|allow-\S+|source|source-directory|mapping)$/.test(word)) options = undefined
    else if (options !== undefined && word !== '') options[word.replaceAll('_', '-')] = rest.join(' ')
  }
  return [...stanzas].map(([name, { address, netmask, ...other }]) => ({
    name,
    isBridge: other['bridge-ports'] !== undefined,
    ...(address !== undefined && { address: withLength(address, netmask) })
  }))
}

/** Options of the datacenter and of the node; the node's rules stand under [RULES]. */
export function parseFirewall(cluster: string, host: string): PveFirewall {
  const [global, local] = [optionsOf(cluster), optionsOf(host)]
  return {
    enabled: global.enable === '1',
    hostEnabled: local.enable !== '0',
    policyIn: global.policy_in ?? 'DROP',
    policyForward: global.policy_forward ?? 'ACCEPT',
    nftables: local.nftables === '1',
    letsDhcpIn: /^IN\s+(DHCP\w*\(ACCEPT\)|ACCEPT\b.*-dport\s+(\S*,)?(67|bootps)\b)/im.test(
      `${cluster}\n${host}`
    )
  }
}

function optionsOf(text: string): Record<string, string> {
  const [, section = ''] = /^\[OPTIONS\]\s*$([^[]*)/im.exec(text) ?? []
  return Object.fromEntries(
    [...section.matchAll(/^\s*([a-z_]+):\s*(\S+)/gm)].map(([, key = '', value = '']) => [key, value])
  )
}

function sections(text: string): { head: string; properties: Record<string, string> }[] {
  const found: { head: string; properties: Record<string, string> }[] = []
  for (const line of text.split('\n').filter((each) => !/^\s*(#|$)/.test(each)))
    if (/^\s/.test(line)) {
      const [, key = '', value = ''] = /^\s+(\S+)\s*(.*?)\s*$/.exec(line) ?? []
      const last = found.at(-1)
      if (last !== undefined) last.properties[key] = value
    } else found.push({ head: line.trim(), properties: {} })
  return found
}

async function guests(directory: string, kind: PveGuest['kind']): Promise<PveGuest[]> {
  const names = (await namesIn(directory)).filter((name) => /^\d+\.conf$/.test(name))
  return await Promise.all(
    names.map(async (name) =>
      parseGuest(Number.parseInt(name, 10), kind, await readFile(join(directory, name), 'utf8'))
    )
  )
}

async function interfacesText(root: string): Promise<string> {
  const directory = join(root, 'etc/network/interfaces.d')
  const paths = [
    join(root, 'etc/network/interfaces'),
    ...(await namesIn(directory)).map((name) => join(directory, name))
  ]
  return (await Promise.all(paths.map((path) => textOf(path).catch(() => '')))).join('\n')
}

function installed(status: string): Record<string, string> {
  const wanted = status.split('\n\n').flatMap((entry) => {
    const value = (key: string) => new RegExp(`^${key}: (.*)$`, 'm').exec(entry)?.[1]
    const [name, version] = [value('Package'), value('Version')]
    if (name === undefined || version === undefined || !packagesOfInterest.includes(name)) return []
    return / installed$/.test(value('Status') ?? '') ? [[name, version] as const] : []
  })
  return Object.fromEntries(wanted)
}

/** `192.0.2.1` with `255.255.255.0`, or as it is. */
function withLength(address: string, netmask: string | undefined): string {
  if (address.includes('/') || netmask === undefined) return address
  if (/^\d+$/.test(netmask)) return `${address}/${netmask}`
  const bits = netmask
    .split('.')
    .map((byte) => Number(byte).toString(2))
    .join('')
  return `${address}/${bits.replaceAll('0', '').length}`
}
