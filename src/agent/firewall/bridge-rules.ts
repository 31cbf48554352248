// The rules at a VM's port: whose frames they are, what kind they may be of, how many. Both ways, stateless.

import type { FirewallVm, Inventory } from './inventory.ts'
import {
  accept,
  broadcastAddress,
  counter,
  equal,
  field,
  goto,
  lookup,
  meta,
  type NftCommand,
  type NftStatement,
  unequal
} from './nft-json.ts'
import { dhcpClientPort, dhcpServerPort } from './ports.ts'
import { type Counts, type DropReason, dropChain, TableBuilder, vmCounter } from './ruleset-parts.ts'

const reasons = [
  'mac',
  'address',
  'arp',
  'ethertype',
  'multicast',
  'dhcp',
  'rate',
  'neighbour',
  'delivery',
  'port'
] as const satisfies readonly DropReason[]

const multicastBit = '01:00:00:00:00:00'
const nobody = '0.0.0.0'
/** Before everything else of the bridge, its own learning of addresses included; on the way out after it. */
const first = -300
const last = 300
/** A client's hardware address in a DHCP message: after 8 bytes of UDP and 28 of BOOTP. */
const dhcpClientMac = { payload: { base: 'th', offset: 36 * 8, len: 48 } }
/** Above this nft's arithmetic would overflow; nothing here is so fast. */
const rateMax = 10_000_000_000
/** A packet of a VM with segmentation offload counts whole. */
const rateBurstBytes = 128 * 1024

export function bridgeTable(inventory: Inventory, counts: Counts): NftCommand[] {
  const table = new TableBuilder({ family: 'bridge', table: inventory.table, counts })
  table.dropChains(reasons)
  table.map('from', 'ifname')
  table.map('to', 'ifname')
  const taps = inventory.vms.flatMap(({ taps }) => taps)
  table.set('ports', 'ifname', taps)
  table.set('operations', 'arp_op', ['request', 'reply'])
  table.set('strangers', 'ifname', inventory.strangers)
  if (inventory.bridgeNames) table.set('bridges', 'ifname', inventory.bridges)
  for (const vm of inventory.vms) vmChains(table, vm)
  hooks(table, inventory)
  return table.commands()
}

function hooks(table: TableBuilder, { bridgeNames }: Inventory): void {
  table.hook('prerouting', { type: 'filter', hook: 'prerouting', prio: first })
  table.rule('prerouting', lookup(meta('iifname'), 'from'))
  table.rule('prerouting', equal(meta('iifname'), '@strangers'), goto(dropChain('port')))
  if (bridgeNames) table.rule('prerouting', equal(meta('ibrname'), '@bridges'), goto(dropChain('port')))
  table.hook('forward', { type: 'filter', hook: 'forward', prio: first })
  // No VM's frame goes to another port, whoever's it is, and none comes from one: the host is the only neighbour.
  table.rule('forward', equal(meta('iifname'), '@ports'), goto(dropChain('neighbour')))
  table.rule('forward', equal(meta('oifname'), '@ports'), goto(dropChain('neighbour')))
  table.hook('postrouting', { type: 'filter', hook: 'postrouting', prio: last })
  table.rule('postrouting', lookup(meta('oifname'), 'to'))
  table.rule('postrouting', equal(meta('oifname'), '@strangers'), goto(dropChain('port')))
  if (bridgeNames) table.rule('postrouting', equal(meta('obrname'), '@bridges'), goto(dropChain('port')))
}

function vmChains(table: TableBuilder, vm: FirewallVm): void {
  table.counter(vmCounter(vm.port))
  const [from, to] = [`from-${vm.port}`, `to-${vm.port}`]
  table.chain(from)
  table.chain(to)
  for (const tap of vm.taps) {
    table.entry('from', tap, goto(from))
    table.entry('to', tap, goto(to))
  }
  fromVm(table, vm, from)
  toVm(table, vm, to)
}

function fromVm(table: TableBuilder, vm: FirewallVm, chain: string): void {
  const { macAddress, address, gateway } = vm
  const dropAs = (reason: DropReason, ...matches: NftStatement[]) =>
    table.rule(chain, ...matches, counter(vmCounter(vm.port)), goto(dropChain(reason)))
  dropAs('mac', unequal(field('ether', 'saddr'), macAddress))
  const { transmitBytesPerSecondMax: rate } = vm
  if (rate !== undefined && rate <= rateMax) dropAs('rate', over(rate))
  if (gateway !== undefined) {
    // Of its own address, to nobody but the host; and whether somebody else has it, as guests ask at their start.
    const arp = (sender: string, target: string) =>
      table.rule(
        chain,
        isArp,
        equal(field('arp', 'saddr ether'), macAddress),
        equal(field('arp', 'saddr ip'), sender),
        equal(field('arp', 'daddr ip'), target),
        ...arpOfIpv4,
        accept
      )
    arp(address, gateway)
    arp(nobody, address)
    arp(address, address)
    dropAs('arp', isArp)
    dropAs('ethertype', unequal(field('ether', 'type'), 'ip'))
    // A lease of its own only. What comes in pieces cannot be told: the host needs none of it.
    for (const target of [gateway, broadcastAddress])
      dropAs('dhcp', isFragment, equal(field('ip', 'daddr'), target))
    dropAs(
      'dhcp',
      equal(field('udp', 'dport'), dhcpServerPort),
      unequal(dhcpClientMac, hardwareAddress(macAddress))
    )
    for (const sender of [nobody, address])
      table.rule(
        chain,
        equal(field('ip', 'saddr'), sender),
        equal(field('ip', 'daddr'), broadcastAddress),
        equal(field('udp', 'sport'), dhcpClientPort),
        equal(field('udp', 'dport'), dhcpServerPort),
        accept
      )
    dropAs('dhcp', isIp, equal(field('udp', 'sport'), dhcpServerPort))
    dropAs('address', unequal(field('ip', 'saddr'), address))
    dropAs('multicast', equal({ '&': [field('ether', 'daddr'), multicastBit] }, multicastBit))
    table.rule(chain, equal(field('ip', 'saddr'), address), accept)
  }
  dropAs('ethertype')
}

function toVm(table: TableBuilder, vm: FirewallVm, chain: string): void {
  const { macAddress, address, gateway } = vm
  const dropAs = (reason: DropReason, ...matches: NftStatement[]) =>
    table.rule(chain, ...matches, counter(vmCounter(vm.port)), goto(dropChain(reason)))
  if (gateway !== undefined) {
    // A request that is broadcast for another VM would tell this one of it.
    table.rule(
      chain,
      isArp,
      equal(field('arp', 'saddr ip'), gateway),
      equal(field('arp', 'daddr ip'), address),
      ...arpOfIpv4,
      accept
    )
    const { receiveBytesPerSecondMax: rate } = vm
    if (rate !== undefined && rate <= rateMax) dropAs('rate', isIp, over(rate))
    table.rule(
      chain,
      equal(field('ether', 'daddr'), macAddress),
      equal(field('ip', 'daddr'), address),
      accept
    )
    table.rule(
      chain,
      equal(field('ip', 'saddr'), gateway),
      equal(field('udp', 'sport'), dhcpServerPort),
      equal(field('udp', 'dport'), dhcpClientPort),
      equal(dhcpClientMac, hardwareAddress(macAddress)),
      accept
    )
  }
  // Not the VM's doing: what a host says to everybody on its networks.
  table.rule(chain, goto(dropChain('delivery')))
}

/** As nft compares raw bytes: a number. */
function hardwareAddress(macAddress: string): number {
  return Number(`0x${macAddress.replaceAll(':', '')}`)
}

const isArp = equal(field('ether', 'type'), 'arp')
const isIp = equal(field('ether', 'type'), 'ip')
/** More of it follows, or it is not the first. */
const isFragment = unequal({ '&': [field('ip', 'frag-off'), 0x3fff] }, 0)
const arpOfIpv4 = [
  equal(field('arp', 'htype'), 1),
  equal(field('arp', 'ptype'), 'ip'),
  equal(field('arp', 'hlen'), 6),
  equal(field('arp', 'plen'), 4),
  equal(field('arp', 'operation'), '@operations')
]

function over(bytesPerSecond: number): NftStatement {
  return {
    limit: {
      rate: bytesPerSecond,
      rate_unit: 'bytes',
      per: 'second',
      burst: rateBurstBytes,
      burst_unit: 'bytes',
      inv: true
    }
  }
}
