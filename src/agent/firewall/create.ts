// The firewall of a host, made from its configuration.

import type { Clock } from '../../lib/clock.ts'
import type { Logger } from '../../lib/log.ts'
import type { Hypervisor } from '../host/hypervisor.ts'
import type { Profile } from '../profiles.ts'
import { Firewall } from './firewall.ts'
import { noLinks, systemLinks } from './links.ts'
import { type Nft, SystemNft } from './nft.ts'
import type { PortRange } from './port-mappings.ts'

/** The part of the configuration that is about the network. */
export interface NetworkConfig {
  readonly table: string
  readonly resolvers: readonly string[]
  readonly ports: PortRange
  readonly checkIntervalMs: number
}

export const networkDefaults: NetworkConfig = {
  table: 'hostlet',
  resolvers: [],
  ports: { first: 20_000, last: 29_999 },
  checkIntervalMs: 30_000
}

export interface FirewallParts {
  readonly config: {
    readonly runtimeDirectory: string
    readonly profiles: Readonly<Record<string, Profile>>
    readonly network?: NetworkConfig
  }
  readonly hypervisor: Hypervisor
  readonly clock: Clock
  readonly log: Logger
  /** A packet filter that is not the kernel's has no devices either. */
  readonly nft?: Nft
}

export function createFirewall(
  { config, hypervisor, clock, log, nft }: FirewallParts,
  resolvers: readonly string[]
): Firewall {
  const settings = { ...(config.network ?? networkDefaults), resolvers }
  return new Firewall({
    settings,
    profiles: config.profiles,
    hypervisor,
    clock,
    log,
    nft: nft ?? new SystemNft({ clock, log, directory: config.runtimeDirectory }),
    links: nft === undefined ? systemLinks : noLinks
  })
}
