// Ethernet frames as an attacker writes them: every field is his to choose, and his words stand in each.

export interface Ethernet {
  readonly to: string
  readonly from: string
}

export const everybody = 'ff:ff:ff:ff:ff:ff'
/** Senders of the tests' guests write this many bytes for each frame; what is over is a trailer that receivers ignore. */
export const frameBytes = 400

const etherTypes = { ipv4: 0x0800, arp: 0x0806, vlan: 0x8100, ipv6: 0x86dd, serviceVlan: 0x88a8 } as const
const protocols = { icmp: 1, udp: 17, icmpv6: 58 } as const

export function ethernet({ to, from }: Ethernet, type: number, payload: Buffer): Buffer {
  return Buffer.concat([macBytes(to), macBytes(from), u16(type), payload])
}

/** Frames of IEEE 802.3 with a length instead of a type: spanning tree, IPX and their like. */
export function llc(link: Ethernet, words: string): Buffer {
  const payload = Buffer.concat([Buffer.from([0x42, 0x42, 0x03]), Buffer.from(words)])
  return ethernet(link, payload.length, payload)
}

export function tagged(frame: Buffer, tags: readonly number[]): Buffer {
  const header = tags.flatMap((id, index) => [
    u16(index < tags.length - 1 ? etherTypes.serviceVlan : etherTypes.vlan),
    u16(id)
  ])
  return Buffer.concat([frame.subarray(0, 12), ...header, frame.subarray(12)])
}

export interface Arp {
  readonly operation: 'request' | 'reply'
  readonly sender: { readonly mac: string; readonly address: string }
  readonly target: { readonly mac: string; readonly address: string }
}

export function arp(link: Ethernet, { operation, sender, target }: Arp, words: string): Buffer {
  const head = Buffer.concat([
    u16(1),
    u16(etherTypes.ipv4),
    Buffer.from([6, 4]),
    u16(operation === 'request' ? 1 : 2)
  ])
  const parties = [sender, target].flatMap(({ mac, address }) => [macBytes(mac), addressBytes(address)])
  return ethernet(link, etherTypes.arp, Buffer.concat([head, ...parties, Buffer.from(words)]))
}

export interface Datagram {
  readonly from: string
  readonly to: string
  readonly fromPort?: number
  readonly toPort?: number
}

export function udp(
  link: Ethernet,
  { from, to, fromPort = 40_000, toPort = 5000 }: Datagram,
  payload: Buffer | string
): Buffer {
  const data = Buffer.from(payload)
  const datagram = Buffer.concat([u16(fromPort), u16(toPort), u16(8 + data.length), u16(0), data])
  return ipv4(link, { from, to, protocol: protocols.udp }, datagram)
}

/** An echo request of ICMP. */
export function ping(link: Ethernet, { from, to }: Datagram, words: string): Buffer {
  const body = Buffer.concat([Buffer.from([8, 0, 0, 0, 0, 1, 0, 1]), Buffer.from(words)])
  body.writeUInt16BE(checksum(body), 2)
  return ipv4(link, { from, to, protocol: protocols.icmp }, body)
}

/** One datagram in pieces of 24 bytes: the first one has the ports and hardly anything else. */
export function fragments(
  link: Ethernet,
  { from, to, fromPort = 40_000, toPort = 5000 }: Datagram,
  payload: Buffer | string
): Buffer[] {
  const data = Buffer.from(payload)
  const datagram = Buffer.concat([u16(fromPort), u16(toPort), u16(8 + data.length), u16(0), data])
  const sizeBytes = 24
  return Array.from({ length: Math.ceil(datagram.length / sizeBytes) }, (_, index) => {
    const piece = datagram.subarray(index * sizeBytes, (index + 1) * sizeBytes)
    const isLast = (index + 1) * sizeBytes >= datagram.length
    const fragment = (isLast ? 0 : 0x2000) | ((index * sizeBytes) / 8)
    return ipv4(link, { from, to, protocol: protocols.udp, fragment }, piece)
  })
}

interface Packet {
  readonly from: string
  readonly to: string
  readonly protocol: number
  /** Flags and offset. */
  readonly fragment?: number
}

function ipv4(link: Ethernet, { from, to, protocol, fragment = 0 }: Packet, payload: Buffer): Buffer {
  const header = Buffer.concat([
    Buffer.from([0x45, 0]),
    u16(20 + payload.length),
    u16(0x4321),
    u16(fragment),
    Buffer.from([64, protocol, 0, 0]),
    addressBytes(from),
    addressBytes(to)
  ])
  header.writeUInt16BE(checksum(header), 10)
  return ethernet(link, etherTypes.ipv4, Buffer.concat([header, payload]))
}

/** What a DHCP server (offer, ack) or client (discover, release) says, to or of the card `client` (RFC 2131). */
export function dhcp(
  kind: 'discover' | 'offer' | 'ack' | 'release',
  { client, address, server }: { client: string; address: string; server: string },
  words: string
): Buffer {
  const number = { discover: 1, offer: 2, ack: 5, release: 7 }[kind]
  const isServer = kind === 'offer' || kind === 'ack'
  const none = '0.0.0.0'
  const fixed = Buffer.concat([
    Buffer.from([isServer ? 2 : 1, 1, 6, 0, 0x12, 0x34, 0x56, 0x78, 0, 0, 0, 0]),
    ...[kind === 'release' ? address : none, isServer ? address : none, server, none].map(addressBytes),
    macBytes(client),
    Buffer.alloc(10),
    Buffer.alloc(192)
  ])
  fixed.write(words, 44, 'latin1')
  const options = [
    Buffer.from([0x63, 0x82, 0x53, 0x63, 53, 1, number, 54, 4]),
    addressBytes(server),
    Buffer.from([255])
  ]
  return Buffer.concat([fixed, ...options])
}

export const icmpv6Types = {
  echo: 128,
  listenerReport: 131,
  routerSolicitation: 133,
  routerAdvertisement: 134,
  neighbourSolicitation: 135,
  neighbourAdvertisement: 136
} as const

/** The fixed part of a message stands in sixteen bytes of zero, then come the words. */
export function icmpv6(
  link: Ethernet,
  { from, to, type }: { from: string; to: string; type: number },
  words: string
): Buffer {
  const body = Buffer.concat([Buffer.from([type, 0, 0, 0]), Buffer.alloc(16), Buffer.from(words)])
  const pseudo = Buffer.concat([
    address6Bytes(from),
    address6Bytes(to),
    Buffer.from([0, 0, 0, body.length, 0, 0, 0, protocols.icmpv6])
  ])
  body.writeUInt16BE(checksum(Buffer.concat([pseudo, body])), 2)
  return ipv6(link, { from, to, next: protocols.icmpv6 }, body)
}

export function udp6(link: Ethernet, { from, to }: { from: string; to: string }, words: string): Buffer {
  const data = Buffer.from(words)
  const body = Buffer.concat([u16(40_000), u16(5000), u16(8 + data.length), u16(0), data])
  return ipv6(link, { from, to, next: protocols.udp }, body)
}

function ipv6(
  link: Ethernet,
  { from, to, next }: { from: string; to: string; next: number },
  payload: Buffer
): Buffer {
  const header = [Buffer.from([0x60, 0, 0, 0]), u16(payload.length), Buffer.from([next, 255])]
  return ethernet(
    link,
    etherTypes.ipv6,
    Buffer.concat([...header, address6Bytes(from), address6Bytes(to), payload])
  )
}

/** A question of DNS for the name of an address, or the address of a name (RFC 1035). */
export function dnsQuestion(name: string, kind: 'A' | 'PTR' | 'TXT'): Buffer {
  const labels = name
    .split('.')
    .map((label) => Buffer.concat([Buffer.from([label.length]), Buffer.from(label)]))
  const type = { A: 1, PTR: 12, TXT: 16 }[kind]
  return Buffer.concat([
    Buffer.from([0x77, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0]),
    ...labels,
    Buffer.from([0]),
    u16(type),
    u16(1)
  ])
}

/** A card's link-local address (RFC 4291, appendix A). */
export function linkLocal(mac: string): string {
  const [a = 0, b, c, d, e, f] = [...macBytes(mac)]
  const hex = (...bytes: (number | undefined)[]) => Buffer.from(bytes.map(Number)).toString('hex')
  return `fe80:0:0:0:${hex(a ^ 2, b)}:${hex(c, 0xff)}:${hex(0xfe, d)}:${hex(e, f)}`
}

export function padded(frame: Buffer): Buffer {
  if (frame.length > frameBytes) throw new Error(`a frame of ${frame.length} bytes`)
  return Buffer.concat([frame, Buffer.alloc(frameBytes - frame.length)])
}

function macBytes(mac: string): Buffer {
  return Buffer.from(mac.replaceAll(':', ''), 'hex')
}

function addressBytes(address: string): Buffer {
  return Buffer.from(address.split('.').map(Number))
}

/** Takes all eight groups, or one double colon. */
function address6Bytes(address: string): Buffer {
  const [head = '', tail] = address.split('::')
  const groups = (text: string) => text.split(':').filter(Boolean)
  const [first, last] = [groups(head), groups(tail ?? '')]
  const zeros = tail === undefined ? [] : Array<string>(8 - first.length - last.length).fill('0')
  return Buffer.concat([...first, ...zeros, ...last].map((group) => u16(Number.parseInt(group, 16))))
}

function u16(value: number): Buffer {
  const bytes = Buffer.alloc(2)
  bytes.writeUInt16BE(value)
  return bytes
}

function checksum(bytes: Buffer): number {
  const even = bytes.length % 2 === 0 ? bytes : Buffer.concat([bytes, Buffer.alloc(1)])
  let sum = 0
  for (let offset = 0; offset < even.length; offset += 2) sum += even.readUInt16BE(offset)
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16)
  return ~sum & 0xffff
}
