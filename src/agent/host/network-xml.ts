// libvirt's XML of a profile's network, and what a network that exists already is like.

import { HostletError } from '../../errors.ts'
import type { Lease } from './hypervisor.ts'
import { parseSubnet } from './subnet.ts'
import { element, renderXml, type XmlElement } from './xml.ts'
import { find, findAll, readXml } from './xml-read.ts'

export interface NetworkDefinition {
  readonly name: string
  readonly bridge: string
  readonly subnet: string
}

/**
 * Mode `open`: libvirt adds no firewall rule of its own. No DHCP range: dnsmasq then serves reservations only. DNS off:
 * libvirt's would tell one VM the names of the others.
 */
export function networkXml({ name, bridge, subnet }: NetworkDefinition): string {
  const { gateway, prefixBits } = parseSubnet(subnet)
  return renderXml(
    element(
      'network',
      {},
      element('name', {}, name),
      element('forward', { mode: 'open' }),
      element('bridge', { name: bridge, stp: 'off', delay: 0 }),
      element('dns', { enable: 'no' }),
      element('ip', { address: gateway, prefix: prefixBits }, element('dhcp'))
    )
  )
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
