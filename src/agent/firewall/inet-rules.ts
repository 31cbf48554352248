// The rules between VMs, their host and the world: who may open a connection to whom. Stateful, by address.

import { type EgressTarget, type PortMapping, transports } from '../../protocol/vm.ts'
import type { FirewallVm, Inventory } from './inventory.ts'
import {
  accept,
  anyOf,
  broadcastAddress,
  concat,
  connection,
  counter,
  equal,
  field,
  goto,
  isMapped,
  isReply,
  lookup,
  masquerade,
  meta,
  type NftCommand,
  type NftStatement,
  prefix,
  unequal
} from './nft-json.ts'
import { dhcpClientPort, dhcpServerPort, dnsPort, mailPort, webPorts } from './ports.ts'
import { closedRanges, disjoint } from './ranges.ts'
import { type Counts, type DropReason, dropChain, TableBuilder, vmCounter } from './ruleset-parts.ts'

const reasons = [
  'host',
  'ipv6',
  'invalid',
  'source',
  'neighbour',
  'dns',
  'private',
  'mail',
  'egress',
  'unasked'
] as const satisfies readonly DropReason[]

/** Just before the usual ones, so that what is dropped here is not first counted or logged by others. */
const filterPriority = -10
const mapPriority = -110
const masqueradePriority = 90

const isIpv4 = equal(meta('nfproto'), 'ipv4')
const fromVms = equal(meta('iifname'), '@bridges')
const toVms = equal(meta('oifname'), '@bridges')

export function inetTable(inventory: Inventory, counts: Counts): NftCommand[] {
  const table = new TableBuilder({ family: 'inet', table: inventory.table, counts })
  table.dropChains(reasons)
  table.set('bridges', 'ifname', inventory.bridges)
  table.set(
    'gateways',
    ['ifname', 'ipv4_addr'],
    inventory.gateways.map((pair) => concat(...pair))
  )
  table.set('resolvers', 'ipv4_addr', inventory.resolvers)
  table.set('subnets', 'ipv4_addr', disjoint(inventory.subnets).map(prefix), { interval: true })
  table.set('closed', 'ipv4_addr', disjoint([...closedRanges, ...inventory.subnets]).map(prefix), {
    interval: true
  })
  // Sets that all VMs share: the kernel looks through all others for the name of each new one without a name.
  table.set('web', 'inet_service', webPorts)
  table.set(
    'naming',
    ['inet_proto', 'inet_service'],
    transports.map((transport) => concat(transport, dnsPort))
  )
  table.map('outgoing', ['ifname', 'ipv4_addr'])
  table.map('incoming', ['ifname', 'ipv4_addr'])
  table.map('published', ['inet_proto', 'inet_service'])
  for (const vm of inventory.vms) vmChains(table, vm)
  hooks(table)
  return table.commands()
}

function hooks(table: TableBuilder): void {
  toHost(table)
  table.chain('from-vms')
  table.rule('from-vms', unequal(meta('nfproto'), 'ipv4'), goto(dropChain('ipv6')))
  table.rule('from-vms', connection('invalid'), goto(dropChain('invalid')))
  table.rule('from-vms', lookup(concat(meta('iifname'), field('ip', 'saddr')), 'outgoing'))
  table.rule('from-vms', goto(dropChain('source')))
  table.chain('to-vms')
  table.rule('to-vms', unequal(meta('nfproto'), 'ipv4'), goto(dropChain('ipv6')))
  table.rule('to-vms', connection('invalid'), goto(dropChain('invalid')))
  table.rule('to-vms', lookup(concat(meta('oifname'), field('ip', 'daddr')), 'incoming'))
  table.rule('to-vms', goto(dropChain('unasked')))
  table.hook('forward', { type: 'filter', hook: 'forward', prio: filterPriority })
  table.rule('forward', fromVms, goto('from-vms'))
  table.rule('forward', toVms, goto('to-vms'))
  table.hook('prerouting', { type: 'nat', hook: 'prerouting', prio: mapPriority })
  // Not from VMs: through the host's own address one would reach another.
  table.rule(
    'prerouting',
    unequal(meta('iifname'), '@bridges'),
    isIpv4,
    equal({ fib: { result: 'type', flags: ['daddr'] } }, 'local'),
    lookup(concat(meta('l4proto'), field('th', 'dport')), 'published')
  )
  table.hook('postrouting', { type: 'nat', hook: 'postrouting', prio: masqueradePriority })
  table.rule(
    'postrouting',
    equal(field('ip', 'saddr'), '@subnets'),
    unequal(meta('oifname'), '@bridges'),
    unequal(meta('oifname'), 'lo'),
    masquerade
  )
}

/** DHCP, and answers to what the host asked: its probes, its backups. */
function toHost(table: TableBuilder): void {
  table.chain('from-vms-to-host')
  const isDhcp = [equal(field('udp', 'sport'), dhcpClientPort), equal(field('udp', 'dport'), dhcpServerPort)]
  table.rule('from-vms-to-host', ...isDhcp, equal(field('ip', 'daddr'), broadcastAddress), accept)
  const itsGateway = equal(concat(meta('iifname'), field('ip', 'daddr')), '@gateways')
  table.rule('from-vms-to-host', ...isDhcp, itsGateway, accept)
  table.rule('from-vms-to-host', isIpv4, connection('established'), isReply, accept)
  table.rule('from-vms-to-host', isIpv4, connection('related'), isReply, isIcmp, accept)
  table.rule('from-vms-to-host', goto(dropChain('host')))
  table.hook('input', { type: 'filter', hook: 'input', prio: filterPriority })
  table.rule('input', fromVms, goto('from-vms-to-host'))
}

function vmChains(table: TableBuilder, vm: FirewallVm): void {
  table.counter(vmCounter(vm.port))
  if (vm.gateway === undefined) return
  const [out, into, mapped] = [`out-${vm.port}`, `in-${vm.port}`, `map-${vm.port}`]
  table.chain(out)
  table.chain(into)
  table.entry('outgoing', concatKey(vm), goto(out))
  table.entry('incoming', concatKey(vm), goto(into))
  fromVm(table, vm, out)
  toVm(table, vm, into)
  if (vm.ports.length === 0) return
  table.chain(mapped)
  for (const mapping of vm.ports) {
    const { transport, hostPort } = mapping
    table.entry('published', { concat: [transport, hostPort] }, goto(mapped))
    table.rule(mapped, equal(field(transport, 'dport'), hostPort), ...sourcesOf(mapping), {
      dnat: { family: 'ip', addr: vm.address, port: mapping.vmPort }
    })
  }
}

function concatKey({ bridge, address }: FirewallVm) {
  return { concat: [bridge, address] }
}

function fromVm(table: TableBuilder, vm: FirewallVm, chain: string): void {
  const dropAs = (reason: DropReason, ...matches: NftStatement[]) =>
    table.rule(chain, ...matches, counter(vmCounter(vm.port)), goto(dropChain(reason)))
  dropAs('neighbour', toVms)
  table.rule(chain, connection('established', 'related'), isReply, accept)
  const asksNames = equal(concat(meta('l4proto'), field('th', 'dport')), '@naming')
  if (vm.dns) table.rule(chain, equal(field('ip', 'daddr'), '@resolvers'), asksNames, accept)
  dropAs('dns', asksNames)
  dropAs('private', equal(field('ip', 'daddr'), '@closed'))
  const isMail = equal(field('tcp', 'dport'), mailPort)
  const { mode, allow = [] } = vm.egress
  if (mode === 'list') for (const target of allow) allowTarget(table, chain, target)
  dropAs('mail', isMail)
  if (mode === 'web') table.rule(chain, equal(field('tcp', 'dport'), '@web'), accept)
  if (mode === 'all') table.rule(chain, accept)
  else dropAs('egress')
}

/** Without ports every one but that of mail, which has to be named. */
function allowTarget(
  table: TableBuilder,
  chain: string,
  { transport, addresses, ports }: EgressTarget
): void {
  const whereto = equal(field('ip', 'daddr'), anyOf(disjoint(addresses).map(prefix)))
  const which =
    ports === undefined
      ? unequal(field(transport, 'dport'), mailPort)
      : equal(field(transport, 'dport'), anyOf(ports))
  table.rule(chain, whereto, which, accept)
}

function toVm(table: TableBuilder, vm: FirewallVm, chain: string): void {
  table.rule(chain, connection('established', 'related'), isReply, accept)
  table.rule(chain, connection('related'), isIcmp, accept)
  for (const mapping of vm.ports) {
    const { transport, vmPort } = mapping
    table.rule(chain, isMapped, equal(field(transport, 'dport'), vmPort), ...sourcesOf(mapping), accept)
  }
  table.rule(chain, counter(vmCounter(vm.port)), goto(dropChain('unasked')))
}

function sourcesOf({ sources }: PortMapping): NftStatement[] {
  return sources === undefined ? [] : [equal(field('ip', 'saddr'), anyOf(disjoint(sources).map(prefix)))]
}

const isIcmp = equal(meta('l4proto'), 'icmp')
