// libvirt's XML of a profile's network, and what a network that exists already is like.

import { HostletError } from '../../errors.ts'
import type { Lease } from './hypervisor.ts'
import { networkAddress, parseSubnet } from './subnet.ts'
import { element, renderXml, type XmlElement } from './xml.ts'
import { find, findAll, readXml } from './xml-read.ts'

export interface NetworkDefinition {
  readonly name: string
  readonly bridge: string
  readonly subnet: string
  /** What DHCP tells its VMs to ask; none where it is left out. */
  readonly resolvers?: readonly string[] | undefined
}

const dnsmasqNamespace = 'http://libvirt.org/schemas/network/dnsmasq/1.0'

/**
 * Mode `open`: libvirt adds no firewall rule of its own. No DHCP range: dnsmasq then serves reservations only. DNS off:
 * libvirt's would tell one VM the names of the others. No IPv6 address: libvirt then shuts IPv6 on the bridge. Reservations
 * are those of the network that this one replaces.
 */
export function networkXml(
  { name, bridge, subnet, resolvers }: NetworkDefinition,
  { uuid, reservations = [] }: Replaced = {}
): string {
  const { gateway, prefixBits } = parseSubnet(subnet)
  return renderXml(
    element(
      'network',
      { 'xmlns:dnsmasq': dnsmasqNamespace },
      element('name', {}, name),
      uuid === undefined ? undefined : element('uuid', {}, uuid),
      element('forward', { mode: 'open' }),
      element('bridge', { name: bridge, stp: 'off', delay: 0 }),
      element('dns', { enable: 'no' }),
      element(
        'ip',
        { address: gateway, prefix: prefixBits },
        element('dhcp', {}, ...reservations.map(hostElement))
      ),
      element(
        'dnsmasq:options',
        {},
        ...dnsmasqOptions(resolvers).map((value) => element('dnsmasq:option', { value }))
      )
    )
  )
}

/** A network of the same name that exists. */
export interface Replaced {
  readonly uuid?: string | undefined
  readonly reservations?: readonly (Lease & { vm?: string })[]
}

/** An option without a value is not sent at all. What a guest says that it is called is nobody's business. */
function dnsmasqOptions(resolvers: readonly string[] = []): string[] {
  return [['dhcp-option=6', ...resolvers].join(','), 'dhcp-ignore-names']
}

/** Whether DHCP says there what it should; a network that an older agent made does not. */
export function hasOptions(xml: string, { resolvers }: NetworkDefinition): boolean {
  const found = findAll(find(readXml(xml), 'dnsmasq:options'), 'dnsmasq:option').map(
    ({ attributes }) => attributes.value
  )
  return JSON.stringify(found) === JSON.stringify(dnsmasqOptions(resolvers))
}

/** Name, bridge and subnet; undefined where it has no IPv4 address, which ours have. */
export function definitionIn(xml: string): NetworkDefinition | undefined {
  const found = readXml(xml)
  const name = find(found, 'name')?.text
  const bridge = find(found, 'bridge')?.attributes.name
  const ip = find(found, 'ip')?.attributes
  const prefix = prefixOf(ip)
  if (name === undefined || bridge === undefined || ip?.address === undefined || prefix === undefined)
    return undefined
  return { name, bridge, subnet: `${networkAddress(ip.address, Number(prefix))}/${prefix}` }
}

/** What of a network outlives its being defined anew. */
export function replaced(xml: string): Replaced {
  return {
    uuid: find(readXml(xml), 'uuid')?.text,
    reservations: reservationsIn(xml).map(({ name, ...lease }) => ({
      ...lease,
      ...(name !== undefined && { vm: name })
    }))
  }
}

export function reservationXml(reservation: Lease & { vm?: string }): string {
  return renderXml(hostElement(reservation))
}

function hostElement({ macAddress, address, vm }: Lease & { vm?: string }): XmlElement {
  return element('host', { mac: macAddress, name: vm, ip: address })
}

/** Refuses to use a network that somebody else made under our name. Throws E_CONFLICT. */
export function requireSameNetwork(xml: string, wanted: NetworkDefinition): void {
  const found = readXml(xml)
  const { gateway, prefixBits } = parseSubnet(wanted.subnet)
  const differences = [
    ['forward mode', find(found, 'forward')?.attributes.mode, 'open'],
    ['bridge', find(found, 'bridge')?.attributes.name, wanted.bridge],
    ['address', find(found, 'ip')?.attributes.address, gateway],
    ['prefix', prefixOf(find(found, 'ip')?.attributes), String(prefixBits)]
  ].filter(([, is, should]) => is !== should)
  const [first] = differences
  if (first === undefined) return
  throw new HostletError(
    'E_CONFLICT',
    `network ${wanted.name} exists with ${first[0]} ${first[1] ?? 'none'}, the configuration wants ${first[2]}. Give the profile another network name, or remove that one once nothing uses it.`,
    { details: { network: wanted.name } }
  )
}

/** libvirt shows a netmask where it was given one. */
function prefixOf(attributes: Readonly<Record<string, string>> | undefined): string | undefined {
  if (attributes?.netmask === undefined) return attributes?.prefix
  const bits = attributes.netmask.split('.').map((part) => Number(part).toString(2).padStart(8, '0'))
  return String(bits.join('').indexOf('0') === -1 ? 32 : bits.join('').indexOf('0'))
}

/** The DHCP reservations in a network's XML. */
export function reservationsIn(xml: string): (Lease & { name: string | undefined })[] {
  return findAll(find(readXml(xml), 'ip', 'dhcp'), 'host').flatMap(({ attributes: { mac, ip, name } }) =>
    mac === undefined || ip === undefined ? [] : [{ macAddress: mac.toLowerCase(), address: ip, name }]
  )
}
