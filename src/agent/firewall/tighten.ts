// What a VM may do in the network: its profile, made tighter by its own specification, and never looser.

import { HostletError } from '../../errors.ts'
import type { Egress, EgressTarget, VmNetwork } from '../../protocol/vm.ts'
import type { Profile } from '../profiles.ts'
import { mailPort, webPorts } from './ports.ts'
import { covers, rangeOf } from './ranges.ts'

/** What a profile says of the network. */
export type NetworkProfile = Pick<
  Profile,
  'egress' | 'dns' | 'receiveBytesPerSecondMax' | 'transmitBytesPerSecondMax'
>

export interface NetworkPolicy {
  readonly egress: Egress
  readonly dns: boolean
  readonly receiveBytesPerSecondMax?: number | undefined
  readonly transmitBytesPerSecondMax?: number | undefined
}

const everywhere = '0.0.0.0/0'

/** Throws E_BAD_REQUEST naming each thing in which the specification asks for more than its profile allows. */
export function tighten(profile: NetworkProfile, wanted: VmNetwork = {}): NetworkPolicy {
  const looser = faults(profile, wanted)
  if (looser.length === 0) return policyOf(profile, wanted)
  throw new HostletError(
    'E_BAD_REQUEST',
    `the network of the VM asks for more than its profile allows: ${looser.join('; ')}. Ask for less, or take a profile that allows it.`
  )
}

/**
 * The same for rules that have to stand: where the profile has become tighter than the VM's specification since the VM was
 * made, the profile holds.
 */
export function policyWithin(profile: NetworkProfile, wanted: VmNetwork = {}): NetworkPolicy {
  const fits = <Key extends keyof VmNetwork>(key: Key): Pick<VmNetwork, Key> | object =>
    wanted[key] !== undefined && faults(profile, { [key]: wanted[key] }).length === 0
      ? { [key]: wanted[key] }
      : {}
  return policyOf(profile, {
    ...fits('egress'),
    ...fits('dns'),
    ...fits('receiveBytesPerSecondMax'),
    ...fits('transmitBytesPerSecondMax')
  })
}

function policyOf(profile: NetworkProfile, wanted: VmNetwork): NetworkPolicy {
  return {
    egress: wanted.egress ?? profile.egress,
    dns: wanted.dns ?? profile.dns,
    receiveBytesPerSecondMax: wanted.receiveBytesPerSecondMax ?? profile.receiveBytesPerSecondMax,
    transmitBytesPerSecondMax: wanted.transmitBytesPerSecondMax ?? profile.transmitBytesPerSecondMax
  }
}

function faults(profile: NetworkProfile, wanted: VmNetwork): string[] {
  return [
    ...(wanted.egress === undefined ? [] : egressFaults(profile.egress, wanted.egress)),
    ...(wanted.dns === true && !profile.dns ? ['dns is off in the profile'] : []),
    ...rateFaults('receiveBytesPerSecondMax', profile, wanted),
    ...rateFaults('transmitBytesPerSecondMax', profile, wanted)
  ]
}

function rateFaults(
  key: 'receiveBytesPerSecondMax' | 'transmitBytesPerSecondMax',
  profile: NetworkProfile,
  wanted: VmNetwork
): string[] {
  const [most, asked] = [profile[key], wanted[key]]
  if (most === undefined || asked === undefined || asked <= most) return []
  return [`${key} ${asked} is more than ${most}`]
}

/** What of an egress lies outside of another one; an impossible one is told too. */
export function egressFaults(profile: Egress, wanted: Egress): string[] {
  if ((wanted.mode === 'list') !== (wanted.allow !== undefined))
    return ['egress takes "allow" with mode list, and only there']
  switch (wanted.mode) {
    case 'none':
      return []
    case 'all':
      return profile.mode === 'all' ? [] : [`egress all is more than ${profile.mode}`]
    case 'web':
      return webTargets.every((target) => holds(profile, target))
        ? []
        : [`egress web is more than ${profile.mode}`]
    case 'list':
      return (wanted.allow ?? [])
        .filter((target) => !holds(profile, target))
        .map((target) => `egress to ${describe(target)} is more than ${profile.mode}`)
    default:
      return wanted.mode satisfies never
  }
}

const webTargets: readonly EgressTarget[] = [
  { transport: 'tcp', addresses: [everywhere], ports: [...webPorts] }
]

/** Whether all of a target may be reached under a profile's egress. */
function holds(profile: Egress, target: EgressTarget): boolean {
  switch (profile.mode) {
    case 'none':
      return false
    case 'all':
      // Mail is no part of all: only a list that names its port has it.
      return target.transport !== 'tcp' || target.ports?.includes(mailPort) !== true
    case 'web':
      return holdsIn(webTargets, target)
    case 'list':
      return holdsIn(profile.allow ?? [], target)
    default:
      return profile.mode satisfies never
  }
}

/** Each port by itself: what several entries of a list give together counts together. */
function holdsIn(allowed: readonly EgressTarget[], target: EgressTarget): boolean {
  const same = allowed.filter(({ transport }) => transport === target.transport)
  const ports: readonly (number | undefined)[] = target.ports ?? [undefined]
  return ports.every((port) => {
    const ranges = same
      .filter((entry) => hasPort(entry, port))
      .flatMap(({ addresses }) => addresses.map(rangeOf))
    return target.addresses.every((address) => covers(ranges, rangeOf(address)))
  })
}

/** Undefined stands for all ports, which an entry without ports has; all of them but mail's. */
function hasPort({ transport, ports }: EgressTarget, port: number | undefined): boolean {
  if (ports !== undefined) return port !== undefined && ports.includes(port)
  return transport !== 'tcp' || port !== mailPort
}

function describe({ transport, addresses, ports }: EgressTarget): string {
  const which = ports === undefined ? 'all ports' : ports.join(', ')
  return `${transport} ${addresses.join(', ')} (${which})`
}
