// Arithmetic of IPv4 subnets: which address is the host's, which are for VMs.

import { HostletError } from '../../errors.ts'

export interface Subnet {
  /** The host's own address on the bridge: the first one. */
  readonly gateway: string
  readonly prefixBits: number
  /** First and last address for VMs, as numbers. */
  readonly first: number
  readonly last: number
}

/** Addresses of a /29: host, five VMs' and two that nobody has. */
const ownSubnetSize = 8

/** Reads `10.83.0.0/20`. Throws E_BAD_REQUEST. */
export function parseSubnet(text: string): Subnet {
  const [, address, bits] = /^((?:[0-9]{1,3}\.){3}[0-9]{1,3})\/([0-9]{1,2})$/.exec(text) ?? []
  const prefixBits = Number(bits)
  const value = address === undefined ? undefined : addressNumber(address)
  if (value === undefined || prefixBits < 8 || prefixBits > 29) {
    throw new HostletError('E_BAD_REQUEST', `${JSON.stringify(text)} is not an IPv4 subnet of /8 to /29`)
  }
  const size = 2 ** (32 - prefixBits)
  const base = value - (value % size)
  // Neither the network's own address, nor the host's, nor the broadcast address.
  return { gateway: addressText(base + 1), prefixBits, first: base + 2, last: base + size - 2 }
}

/** The first address of the network that an address is in. */
export function networkAddress(address: string, prefixBits: number): string {
  const value = addressNumber(address) ?? 0
  return addressText(value - (value % 2 ** (32 - prefixBits)))
}

/** The first /29 of a subnet that overlaps none of the taken ones; undefined when all are. */
export function lowestFreeSubnet(whole: string, taken: readonly string[]): string | undefined {
  const { first, last } = parseSubnet(whole)
  const used = taken.map((subnet) => parseSubnet(subnet))
  for (let base = first - 2; base + ownSubnetSize - 2 <= last; base += ownSubnetSize) {
    // Gateways and addresses of a subnet, its own and its broadcast address left out.
    const isFree = used.every((each) => each.last < base || base + ownSubnetSize - 1 < each.first - 1)
    if (isFree) return `${addressText(base)}/29`
  }
  return undefined
}

/** The lowest address for a VM that is not taken; undefined when all are. */
export function lowestFreeAddress(subnet: Subnet, taken: ReadonlySet<string>): string | undefined {
  for (let value = subnet.first; value <= subnet.last; value++) {
    const address = addressText(value)
    if (!taken.has(address)) return address
  }
  return undefined
}

export function addressNumber(text: string): number | undefined {
  const parts = text.split('.').map(Number)
  if (parts.length !== 4 || parts.some((part) => !Number.isInteger(part) || part < 0 || part > 255))
    return undefined
  return parts.reduce((sum, part) => sum * 256 + part, 0)
}

export function addressText(value: number): string {
  return [24, 16, 8, 0].map((shift) => Math.floor(value / 2 ** shift) % 256).join('.')
}
