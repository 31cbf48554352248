// Attacks on the link: frames and addresses that are not the attacker's own, and kinds of frames that nobody may send.

import { type Attack, type Cast, tell } from './attacks.ts'
import {
  arp,
  dhcp,
  ethernet,
  everybody,
  fragments,
  icmpv6,
  icmpv6Types,
  linkLocal,
  llc,
  tagged,
  udp,
  udp6
} from './frames.ts'

const unknownMac = '52:54:00:66:66:66'

export function spoofing({ world, mallory, neighbour, stranger }: Cast): Attack[] {
  const { address, mac, gateway } = mallory
  const to = world.outside.server
  const throughHost = { from: mac, to: gateway.mac }
  const as = (name: string, link: { from: string; to: string }, from: string): Attack => ({
    name,
    frames: (words) => [udp(link, { from, to }, words)],
    arrivesAt: ['bridge']
  })
  return [
    as('a card that nobody has', { from: unknownMac, to: gateway.mac }, address),
    as("the neighbour's card and address", { from: neighbour.mac, to: gateway.mac }, neighbour.address),
    as("the host's own card", { from: gateway.mac, to: everybody }, gateway.address),
    as("the neighbour's address", throughHost, neighbour.address),
    as('an address of another bridge', throughHost, stranger.address),
    as("the host's address", throughHost, gateway.address),
    as('an address of the internet', throughHost, world.outside.otherServer),
    as('an address that is none', throughHost, '0.0.0.0'),
    as('the address of the host itself', throughHost, '127.0.0.1'),
    {
      name: 'a card of its own choice, set in the guest',
      alone: true,
      script: (words) =>
        [
          `ip link set eth0 address ${unknownMac}`,
          tell(words, to, 5000),
          `ip link set eth0 address ${mac}`
        ].join('; '),
      arrivesAt: ['bridge', 'outside']
    },
    {
      name: 'an address of its own choice, set in the guest',
      alone: true,
      script: (words) =>
        [
          `ip address add ${neighbour.address}/32 dev eth0`,
          `ip route add ${to}/32 via ${gateway.address} src ${neighbour.address}`,
          tell(words, to, 5000),
          `ip route del ${to}/32`,
          `ip address del ${neighbour.address}/32 dev eth0`
        ].join('; '),
      arrivesAt: ['bridge', 'outside']
    }
  ]
}

export function arpPoisoning({ mallory, neighbour }: Cast): Attack[] {
  const { address, mac, gateway } = mallory
  const mine = { mac, address }
  const asGateway = { mac, address: gateway.address }
  const asNeighbour = { mac, address: neighbour.address }
  return [
    {
      name: 'I am the gateway, to a neighbour',
      frames: (words) => [
        arp(
          { from: mac, to: neighbour.mac },
          { operation: 'reply', sender: asGateway, target: neighbour },
          words
        )
      ],
      arrivesAt: ['neighbour']
    },
    {
      name: 'I am the gateway, to everybody',
      frames: (words) => [
        arp({ from: mac, to: everybody }, { operation: 'reply', sender: asGateway, target: asGateway }, words)
      ],
      arrivesAt: ['neighbour', 'bridge']
    },
    {
      name: 'I am the neighbour, to the host',
      frames: (words) => [
        arp(
          { from: mac, to: gateway.mac },
          { operation: 'reply', sender: asNeighbour, target: gateway },
          words
        )
      ],
      arrivesAt: ['bridge']
    },
    {
      name: "a question in the neighbour's name",
      frames: (words) => [
        arp(
          { from: mac, to: everybody },
          { operation: 'request', sender: asNeighbour, target: gateway },
          words
        )
      ],
      arrivesAt: ['neighbour', 'bridge']
    },
    {
      name: 'another card inside the message than outside',
      frames: (words) => [
        arp(
          { from: mac, to: gateway.mac },
          { operation: 'reply', sender: { mac: unknownMac, address }, target: gateway },
          words
        )
      ],
      arrivesAt: ['bridge']
    },
    {
      name: 'who has the address of the neighbour',
      frames: (words) => [
        arp({ from: mac, to: everybody }, { operation: 'request', sender: mine, target: neighbour }, words)
      ],
      arrivesAt: ['neighbour'],
      maySee: ['bridge']
    }
  ]
}

export function rogueDhcp({ mallory, neighbour }: Cast): Attack[] {
  const { address, mac, gateway } = mallory
  const fromServer = { from: address, to: '255.255.255.255', fromPort: 67, toPort: 68 }
  const fromClient = { from: '0.0.0.0', to: '255.255.255.255', fromPort: 68, toPort: 67 }
  const lease = { client: neighbour.mac, address: neighbour.address, server: address }
  const link = { from: mac, to: everybody }
  const toHost = { from: mac, to: gateway.mac }
  const renewing = { ...fromClient, from: address, to: gateway.address }
  const release = (words: string) => dhcp('release', { ...lease, server: gateway.address }, words)
  return [
    ...(['offer', 'ack'] as const).map(
      (kind): Attack => ({
        name: `an ${kind} to everybody`,
        frames: (words) => [udp(link, fromServer, dhcp(kind, lease, words))],
        arrivesAt: ['neighbour', 'bridge']
      })
    ),
    {
      name: 'an offer to the card of the neighbour',
      frames: (words) => [udp({ from: mac, to: neighbour.mac }, fromServer, dhcp('offer', lease, words))],
      arrivesAt: ['neighbour']
    },
    {
      name: "a question for the neighbour's lease",
      frames: (words) => [udp(link, fromClient, dhcp('discover', lease, words))],
      arrivesAt: ['bridge', 'neighbour']
    },
    {
      name: "the end of the neighbour's lease",
      frames: (words) => [udp(toHost, renewing, release(words))],
      arrivesAt: ['bridge']
    },
    {
      name: "the end of the neighbour's lease, in pieces",
      frames: (words) => fragments(toHost, renewing, release(words)),
      arrivesAt: ['bridge']
    }
  ]
}

export function ipv6({ mallory, neighbour }: Cast): Attack[] {
  const { mac, gateway } = mallory
  const from = linkLocal(mac)
  const toAll = { from: mac, to: '33:33:00:00:00:01' }
  const allNodes = 'ff02::1'
  const message = (name: string, type: number, { link = toAll, to = allNodes } = {}): Attack => ({
    name,
    frames: (words) => [icmpv6(link, { from, to, type }, words)],
    // A bridge passes groups on to those ports only that have asked for them.
    arrivesAt: to === allNodes ? ['bridge', 'neighbour'] : ['bridge']
  })
  const toRouters = { link: { from: mac, to: '33:33:00:00:00:02' }, to: 'ff02::2' }
  return [
    message('a router advertisement', icmpv6Types.routerAdvertisement),
    message('a router solicitation', icmpv6Types.routerSolicitation, toRouters),
    message('a neighbour advertisement', icmpv6Types.neighbourAdvertisement),
    message('a neighbour solicitation', icmpv6Types.neighbourSolicitation),
    message('a listener report', icmpv6Types.listenerReport),
    message('a ping of everybody', icmpv6Types.echo),
    {
      name: 'a datagram to the link-local address of the neighbour',
      frames: (words) => [
        udp6({ from: mac, to: neighbour.mac }, { from, to: linkLocal(neighbour.mac) }, words)
      ],
      arrivesAt: ['neighbour']
    },
    {
      name: 'a datagram to the link-local address of the host',
      frames: (words) => [udp6({ from: mac, to: gateway.mac }, { from, to: linkLocal(gateway.mac) }, words)],
      arrivesAt: ['bridge']
    },
    {
      name: 'a datagram to everybody, by the guest itself',
      script: (words) => `echo '${words}' | socat -u - UDP6-DATAGRAM:[ff02::1%eth0]:5000`,
      arrivesAt: ['bridge', 'neighbour']
    }
  ]
}

export function oddFrames({ world, mallory, neighbour }: Cast): Attack[] {
  const { address, mac, gateway } = mallory
  const link = { from: mac, to: everybody }
  const inner = (words: string) =>
    udp({ from: mac, to: everybody }, { from: address, to: world.outside.server }, words)
  /** With one tag: the bridge has them, the guest on its other side does not hear them. */
  const once: Record<string, (words: string) => Buffer> = {
    'a tagged frame': (words) => tagged(inner(words), [7]),
    'a frame of VLAN 0': (words) => tagged(inner(words), [0]),
    'a tagged ARP reply for the gateway': (words) =>
      tagged(
        arp(
          link,
          { operation: 'reply', sender: { mac, address: gateway.address }, target: neighbour },
          words
        ),
        [1]
      )
  }
  const frames: Record<string, (words: string) => Buffer> = {
    'a frame with two tags': (words) => tagged(inner(words), [7, 8]),
    'an experimental ethertype': (words) => ethernet(link, 0x88b5, Buffer.from(words)),
    'PPPoE discovery': (words) => ethernet(link, 0x8863, Buffer.from(words)),
    'wake on LAN': (words) => ethernet(link, 0x0842, Buffer.from(words)),
    LLDP: (words) => ethernet(link, 0x88cc, Buffer.from(words)),
    EAPOL: (words) => ethernet(link, 0x888e, Buffer.from(words)),
    MPLS: (words) => ethernet(link, 0x8847, Buffer.from(words)),
    RARP: (words) => ethernet(link, 0x8035, Buffer.from(words)),
    'a frame with a length for a type': (words) => llc(link, words)
  }
  const attacks = (these: typeof frames, arrivesAt: Attack['arrivesAt']) =>
    Object.entries(these).map(
      ([name, frame]): Attack => ({ name, frames: (words) => [frame(words)], arrivesAt })
    )
  const spanningTree = (words: string) => llc({ from: mac, to: '01:80:c2:00:00:00' }, words)
  return [
    ...attacks(once, ['bridge']),
    ...attacks(frames, ['neighbour', 'bridge']),
    { name: 'spanning tree', frames: (words) => [spanningTree(words)], arrivesAt: [] }
  ]
}
