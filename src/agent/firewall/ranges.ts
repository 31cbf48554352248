// Ranges of IPv4 addresses: which no VM ever reaches, and the arithmetic of the others.

import { addressNumber, addressText } from '../host/subnet.ts'

/**
 * What no VM reaches, whatever its egress says: this network, private (RFC 1918), shared (RFC 6598), loopback, link-local
 * with the metadata services, protocol assignments, multicast, and what is reserved or broadcast.
 */
export const closedRanges = [
  '0.0.0.0/8',
  '10.0.0.0/8',
  '100.64.0.0/10',
  '127.0.0.0/8',
  '169.254.0.0/16',
  '172.16.0.0/12',
  '192.0.0.0/24',
  '192.168.0.0/16',
  '224.0.0.0/3'
] as const

/** First and last address, both of it. */
export interface Range {
  readonly from: number
  readonly to: number
}

/** Of `203.0.113.0/24` or one address; bits of the host part do not count. */
export function rangeOf(cidr: string): Range {
  const [address = '', bits = '32'] = cidr.split('/')
  const size = 2 ** (32 - Number(bits))
  const value = addressNumber(address) ?? 0
  const from = value - (value % size)
  return { from, to: from + size - 1 }
}

/** The same addresses in ranges that neither touch nor overlap, in order. */
export function merged(ranges: readonly Range[]): Range[] {
  const whole: Range[] = []
  for (const range of [...ranges].sort((left, right) => left.from - right.from)) {
    const before = whole.at(-1)
    if (before !== undefined && range.from <= before.to + 1)
      whole[whole.length - 1] = { from: before.from, to: Math.max(before.to, range.to) }
    else whole.push(range)
  }
  return whole
}

/** Whether the ranges together hold every address of another one. */
export function covers(ranges: readonly Range[], { from, to }: Range): boolean {
  return merged(ranges).some((each) => each.from <= from && to <= each.to)
}

export function overlaps(ranges: readonly Range[], { from, to }: Range): boolean {
  return ranges.some((each) => each.from <= to && from <= each.to)
}

/** The fewest CIDR ranges of the same addresses: nft refuses a set whose members overlap. */
export function disjoint(cidrs: readonly string[]): string[] {
  return merged(cidrs.map(rangeOf)).flatMap(cidrsOf)
}

function cidrsOf({ from, to }: Range): string[] {
  const found: string[] = []
  for (let start = from; start <= to; ) {
    let bits = 32
    while (bits > 0) {
      const size = 2 ** (33 - bits)
      if (start % size !== 0 || start + size - 1 > to) break
      bits--
    }
    found.push(bits === 32 ? addressText(start) : `${addressText(start)}/${bits}`)
    start += 2 ** (32 - bits)
  }
  return found
}
