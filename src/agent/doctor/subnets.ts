// IPv4 networks of the host against those of the profiles: where one hides the other.

import type { AgentConfig } from '../config.ts'
import type { RouteFacts } from './facts.ts'

interface Range {
  readonly from: number
  readonly to: number
}

/** Of `10.83.0.0/20`, or of an address with its length. */
export function rangeOf(network: string): Range {
  const [address = '', length = '32'] = network.split('/')
  const size = 2 ** (32 - Number(length))
  const value = address.split('.').reduce((sum, part) => sum * 256 + Number(part), 0)
  const from = value - (value % size)
  return { from, to: from + size - 1 }
}

export function overlaps(one: string, other: string): boolean {
  const [first, second] = [rangeOf(one), rangeOf(other)]
  return first.from <= second.to && second.from <= first.to
}

/** Routes of devices that are none of ours and share addresses with a profile, each with that profile. */
export function clashingRoutes(
  { profiles }: Pick<AgentConfig, 'profiles'>,
  routes: readonly RouteFacts[]
): { readonly profile: string; readonly subnet: string; readonly route: RouteFacts }[] {
  const bridges = Object.values(profiles).map(({ bridge }) => bridge)
  const foreign = routes.filter(({ device }) => !bridges.some((bridge) => device.startsWith(bridge)))
  return Object.entries(profiles).flatMap(([profile, { subnet }]) =>
    foreign.filter(({ network }) => overlaps(subnet, network)).map((route) => ({ profile, subnet, route }))
  )
}
