// What a ruleset is rendered from: the VMs as the hypervisor has them, under the host's profiles.

import type { Egress, PortMapping } from '../../protocol/vm.ts'
import type { VmRecord } from '../host/hypervisor.ts'
import { portName } from '../host/names.ts'
import { parseSubnet } from '../host/subnet.ts'
import type { Profile } from '../profiles.ts'
import { policyWithin } from './tighten.ts'

export interface FirewallVm {
  /** Name of its port, and of its chains. */
  readonly port: string
  /** Devices that are its port: of that name, or of another one where an agent before this started it. */
  readonly taps: readonly string[]
  readonly macAddress: string
  readonly address: string
  readonly bridge: string
  /** Undefined where its profile is not configured any more: nothing passes. */
  readonly gateway: string | undefined
  readonly egress: Egress
  readonly dns: boolean
  readonly receiveBytesPerSecondMax?: number | undefined
  readonly transmitBytesPerSecondMax?: number | undefined
  readonly ports: readonly PortMapping[]
}

export interface Inventory {
  readonly table: string
  readonly vms: readonly FirewallVm[]
  readonly bridges: readonly string[]
  readonly subnets: readonly string[]
  /** Bridges with the host's address on them. */
  readonly gateways: readonly (readonly [bridge: string, address: string])[]
  readonly resolvers: readonly string[]
  /** Ports of our bridges that are no VM's. */
  readonly strangers: readonly string[]
  /** Whether the kernel can match a port's bridge, and so tell a stranger that nobody has seen yet. */
  readonly bridgeNames: boolean
}

export type FirewallSubject = Pick<VmRecord, 'specification' | 'placement'>

/** A port of a bridge, as the kernel lists it. */
export interface BridgePort {
  readonly name: string
  readonly macAddress: string
}

export interface InventoryOptions {
  readonly table: string
  readonly profiles: Readonly<Record<string, Profile>>
  readonly resolvers: readonly string[]
  readonly bridgeNames: boolean
}

/** A throw-away machine has no network card, and so no rules. */
export function withCard(vms: readonly FirewallSubject[]): readonly FirewallSubject[] {
  return vms.filter(({ placement }) => placement.trial !== true)
}

/** The bridges that are ours: of profiles, and of VMs that have one to themselves. */
export function bridgesOf(vms: readonly FirewallSubject[], profiles: InventoryOptions['profiles']): string[] {
  const shared = Object.values(profiles).flatMap(({ ownBridge, bridge }) => (ownBridge ? [] : [bridge]))
  const own = vms.flatMap(({ placement }) => placement.ownNetwork?.bridge ?? [])
  return [...new Set([...shared, ...own])].sort()
}

export function inventoryOf(
  vms: readonly FirewallSubject[],
  ports: readonly BridgePort[],
  { table, profiles, resolvers, bridgeNames }: InventoryOptions
): Inventory {
  const bridges = bridgesOf(vms, profiles)
  const known = withCard(vms)
    .map((vm) => firewallVm(vm, profiles, ports))
    .sort((left, right) => (left.port < right.port ? -1 : 1))
  const taps = new Set(known.flatMap((vm) => vm.taps))
  const subnets = [
    ...Object.values(profiles).map(({ subnet }) => subnet),
    ...known.flatMap(({ gateway, address }) => (gateway === undefined ? [] : [address]))
  ]
  return {
    table,
    vms: known,
    bridges,
    subnets: [...new Set(subnets)].sort(),
    gateways: gatewaysOf(vms, profiles),
    resolvers: [...resolvers],
    // Ports of VMs come and go by themselves; these stand out.
    strangers: ports
      .map(({ name }) => name)
      .filter((name) => !taps.has(name))
      .sort(),
    bridgeNames
  }
}

function firewallVm(
  { specification, placement }: FirewallSubject,
  profiles: InventoryOptions['profiles'],
  ports: readonly BridgePort[]
): FirewallVm {
  const { macAddress, address, ownNetwork } = placement
  const port = portName(specification.uuid)
  const profile = Object.hasOwn(profiles, specification.profile) ? profiles[specification.profile] : undefined
  const common = { port, taps: [port, ...adopted(port, macAddress, ports)], macAddress, address }
  const network = ownNetwork ?? (profile?.ownBridge === false ? profile : undefined)
  if (profile === undefined || network === undefined)
    return { ...common, bridge: '', gateway: undefined, egress: { mode: 'none' }, dns: false, ports: [] }
  return {
    ...common,
    ...policyWithin(profile, specification.network),
    bridge: network.bridge,
    gateway: parseSubnet(network.subnet).gateway,
    ports: specification.network?.ports ?? []
  }
}

/** libvirt gives a port the MAC of its VM's card with another first byte; the guest cannot change it. */
function adopted(port: string, macAddress: string, ports: readonly BridgePort[]): string[] {
  const tail = macAddress.slice(2)
  return ports
    .filter(({ name, macAddress: mac }) => name !== port && mac === `fe${tail}`)
    .map(({ name }) => name)
}

function gatewaysOf(
  vms: readonly FirewallSubject[],
  profiles: InventoryOptions['profiles']
): (readonly [string, string])[] {
  const networks = [
    ...Object.values(profiles).filter(({ ownBridge }) => !ownBridge),
    ...vms.flatMap(({ placement }) => placement.ownNetwork ?? [])
  ]
  const byBridge = new Map(
    networks.map(({ bridge, subnet }) => [bridge, parseSubnet(subnet).gateway] as const)
  )
  return [...byBridge].sort(([left], [right]) => (left < right ? -1 : 1))
}
