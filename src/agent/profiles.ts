// Isolation profiles: what a VM's "profile" means on this host. Their schema, their defaults, and what no configuration may say.

import { type Static, Type } from '../lib/schema.ts'
import { strict } from '../protocol/names.ts'
import { DiskLimits, Egress, VmNetwork } from '../protocol/vm.ts'

export const LinkName = Type.String({
  pattern: '^[a-z][a-z0-9-]{0,14}$',
  description: 'a network device name of at most 15 characters: letters, digits and dashes'
})
export const ObjectName = Type.String({
  pattern: '^[a-z][a-z0-9-]{0,62}$',
  description: 'a name of letters, digits and dashes'
})
const octet = '(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])'
const Subnet = Type.String({
  pattern: `^(${octet}\\.){3}${octet}/(8|9|1[0-9]|2[0-9])$`,
  description: 'an IPv4 network of /8 to /29 such as 10.83.0.0/20'
})
/** Above 1 more is promised to VMs than the host has, counting on their not asking for all of it at once. */
const Overcommit = Type.Number({ minimum: 1, maximum: 64 })

/** The device of a VM's own bridge ends in eight digits of its UUID. */
export const ownBridgePrefixMax = 7

export const Profile = Type.Object(
  {
    /** libvirt network; with `ownBridge` the beginning of the names of its VMs' networks. */
    network: ObjectName,
    /** Device of its bridge; with `ownBridge` the beginning of the devices' names. */
    bridge: LinkName,
    /** Addresses of its VMs; with `ownBridge` each VM has a /29 of it. */
    subnet: Subnet,
    /** A bridge and a network for each VM, instead of one for all of them. */
    ownBridge: Type.Boolean({ default: false }),
    egress: { ...Egress, default: { mode: 'web' } },
    /** Whether its VMs may ask the resolvers of the host's configuration. Nobody else answers them. */
    dns: Type.Boolean({ default: true }),
    receiveBytesPerSecondMax: VmNetwork.properties.receiveBytesPerSecondMax,
    transmitBytesPerSecondMax: VmNetwork.properties.transmitBytesPerSecondMax,
    /** `pinned`: each vCPU has a core of the host to itself. */
    cpu: Type.Enum(['shared', 'pinned'], { default: 'shared' }),
    /** vCPUs for each core of the host, counted over the VMs of shared cores. */
    cpuOvercommit: { ...Overcommit, default: 4 },
    memoryOvercommit: { ...Overcommit, default: 1 },
    /** Memory out of the host's reserved huge pages. */
    hugepages: Type.Boolean({ default: false }),
    diskLimits: { ...DiskLimits, default: {} },
    /** Disks that are unreadable without their keys. */
    encryption: Type.Boolean({ default: true }),
    /** Whether operators may be given the serial console of its VMs. */
    console: Type.Boolean({ default: true })
  },
  strict
)
export type Profile = Static<typeof Profile>

/** What is left out of a profile. */
const usual = {
  ownBridge: false,
  egress: { mode: 'web' },
  dns: true,
  cpu: 'shared',
  cpuOvercommit: 4,
  memoryOvercommit: 1,
  hugepages: false,
  diskLimits: {},
  encryption: true,
  console: true
} as const

/** A profile with the usual for what is left out. */
export function profileOf(given: Pick<Profile, 'network' | 'bridge' | 'subnet'> & Partial<Profile>): Profile {
  return { ...usual, ...given }
}

export const defaultProfiles: Readonly<Record<string, Profile>> = {
  starter: profileOf({ network: 'hostlet-starter', bridge: 'hl-starter', subnet: '10.83.0.0/20' }),
  premium: profileOf({
    network: 'hostlet-premium',
    bridge: 'hl-p-',
    subnet: '10.83.64.0/18',
    ownBridge: true,
    cpu: 'pinned'
  }),
  enterprise: profileOf({
    network: 'hostlet-enterprise',
    bridge: 'hl-e-',
    subnet: '10.83.128.0/18',
    ownBridge: true,
    cpu: 'pinned',
    egress: { mode: 'none' },
    dns: false
  })
}

interface Fault {
  readonly at: string[]
  readonly text: string
}

/** Two profiles on one bridge or with overlapping subnets would join tenants that must stay apart. */
export function profileFaults({
  profiles
}: {
  readonly profiles: Readonly<Record<string, Profile>>
}): Fault[] {
  const entries = Object.entries(profiles)
  return entries.flatMap(([name, profile], index) => [
    ...ownFaults(name, profile),
    ...entries.slice(0, index).flatMap(([other, before]) => clashes({ name, profile }, { other, before }))
  ])
}

function ownFaults(name: string, { bridge, ownBridge, egress }: Profile): Fault[] {
  const at = ['profiles', name]
  return [
    ...(ownBridge && bridge.length > ownBridgePrefixMax
      ? [{ at: [...at, 'bridge'], text: `expected at most ${ownBridgePrefixMax} characters with ownBridge` }]
      : []),
    ...((egress.mode === 'list') === (egress.allow !== undefined)
      ? []
      : [{ at: [...at, 'egress'], text: 'expected "allow" with mode list, and only there' }])
  ]
}

function clashes(
  { name, profile }: { name: string; profile: Profile },
  { other, before }: { other: string; before: Profile }
): Fault[] {
  const clash = (key: string, why: string) => ({
    at: ['profiles', name, key],
    text: `expected ${why} than that of profile "${other}"`
  })
  return [
    ...(profile.network === before.network ? [clash('network', 'another network')] : []),
    ...(profile.bridge === before.bridge ? [clash('bridge', 'another bridge')] : []),
    ...(overlap(profile.subnet, before.subnet) ? [clash('subnet', 'another subnet')] : [])
  ]
}

function overlap(a: string, b: string): boolean {
  const [first, second] = [range(a), range(b)]
  return first.from <= second.to && second.from <= first.to
}

function range(subnet: string): { from: number; to: number } {
  const [address = '', bits = '32'] = subnet.split('/')
  const size = 2 ** (32 - Number(bits))
  const value = address.split('.').reduce((sum, part) => sum * 256 + Number(part), 0)
  const from = value - (value % size)
  return { from, to: from + size - 1 }
}
