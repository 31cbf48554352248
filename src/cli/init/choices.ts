// What "hostlet init" lets one choose, as changes of the agent's configuration. Everything else has a default that fits.

import type { AgentConfig } from '../../agent/config.ts'
import { HostletError } from '../../errors.ts'
import { parseBytes } from '../quantities.ts'
import type { ConfigChange } from './config-edit.ts'

export interface HostChoices {
  /** Name of the libvirt pool. */
  readonly pool?: string | undefined
  readonly poolPath?: string | undefined
  /** Device of the bridge that VMs of the usual profile share. */
  readonly bridge?: string | undefined
  /** A /16 that the profiles share. */
  readonly subnet?: string | undefined
  /** `FIRST-LAST`. */
  readonly ports?: string | undefined
  readonly accelerator?: string | undefined
  readonly reserveMemory?: string | undefined
}

/** Parts of the /16 that each profile of the sample has. */
const shares: Readonly<Record<string, string>> = {
  starter: '0.0/20',
  premium: '64.0/18',
  enterprise: '128.0/18'
}
/** Networks of hostlet's own, where the usual one is taken: private, and seldom used by anybody. */
export const subnetCandidates = [83, 84, 85, 86, 87, 91, 93, 97, 101, 107, 113, 119, 203, 211, 223, 233].map(
  (octet) => `10.${octet}.0.0/16`
)

/** Throws E_BAD_REQUEST for what is no such value; what only the schema knows is found when the whole is checked. */
export function configChanges(choices: HostChoices, config: AgentConfig): ConfigChange[] {
  const { pool, poolPath, bridge, subnet, ports, accelerator, reserveMemory } = choices
  return [
    ...(pool === undefined ? [] : [{ at: ['pool', 'name'], value: pool }]),
    ...(poolPath === undefined ? [] : [{ at: ['pool', 'path'], value: directory(poolPath) }]),
    ...(bridge === undefined ? [] : [bridgeChange(bridge, config)]),
    ...(subnet === undefined ? [] : subnets(subnet, config)),
    ...(ports === undefined ? [] : portRange(ports)),
    ...(accelerator === undefined ? [] : [{ at: ['accelerator'], value: accelerator }]),
    ...(reserveMemory === undefined
      ? []
      : [{ at: ['reserve', 'memoryBytes'], value: parseBytes(reserveMemory) }])
  ]
}

/** Whether the profiles are those of the sample, whose subnets can be moved together. */
export function hasSampleProfiles({ profiles }: AgentConfig): boolean {
  return Object.keys(profiles).toSorted().join() === Object.keys(shares).toSorted().join()
}

function directory(path: string): string {
  if (/^(\/[A-Za-z0-9@._+-]+)+$/.test(path)) return path
  throw new HostletError(
    'E_BAD_REQUEST',
    `--pool-path ${path} is not the absolute path of a directory in plain letters, such as /srv/hostlet.`
  )
}

/** What the device may be called the schema says, and the doctor whether there is one already. */
function bridgeChange(bridge: string, config: AgentConfig): ConfigChange {
  if (hasSampleProfiles(config)) return { at: ['profiles', 'starter', 'bridge'], value: bridge }
  throw new HostletError(
    'E_BAD_REQUEST',
    '--bridge goes with the profiles of the sample only; this configuration has others: set the bridge of each in /etc/hostlet/agent.yaml.'
  )
}

function subnets(subnet: string, config: AgentConfig): ConfigChange[] {
  const prefix = /^(\d{1,3}\.\d{1,3})\.0\.0\/16$/.exec(subnet)?.[1]
  if (prefix === undefined)
    throw new HostletError(
      'E_BAD_REQUEST',
      `--subnet ${subnet} is not a network of /16 such as ${subnetCandidates[1]}: the profiles share it.`
    )
  if (!hasSampleProfiles(config))
    throw new HostletError(
      'E_BAD_REQUEST',
      '--subnet goes with the profiles of the sample only; this configuration has others: set the subnet of each in /etc/hostlet/agent.yaml.'
    )
  return Object.entries(shares).map(([profile, share]) => ({
    at: ['profiles', profile, 'subnet'],
    value: `${prefix}.${share}`
  }))
}

function portRange(text: string): ConfigChange[] {
  const [, first, last] = /^(\d{1,5})-(\d{1,5})$/.exec(text) ?? []
  if (first === undefined || last === undefined || Number(first) > Number(last))
    throw new HostletError('E_BAD_REQUEST', `--ports ${text} is not a range such as 20000-29999.`)
  return [
    { at: ['network', 'ports', 'first'], value: Number(first) },
    { at: ['network', 'ports', 'last'], value: Number(last) }
  ]
}
