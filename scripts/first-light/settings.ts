// Every name, path and figure of one first light. All that it makes carries its name, so that nothing else is touched.

import { createHash } from 'node:crypto'
import { BlockList } from 'node:net'
import { networkInterfaces } from 'node:os'
import { join } from 'node:path'
import { Missing } from './missing.ts'

export interface Settings {
  readonly name: string
  readonly vm: string
  /** What is made of a backup of it. */
  readonly copy: string
  /** Root of the repository. */
  readonly root: string
  readonly node: string
  readonly main: string
  readonly image: string
  readonly imageDigest: string
  readonly directory: string
  readonly runtimeDirectory: string
  readonly poolDirectory: string
  readonly logDirectory: string
  readonly lockFile: string
  readonly envFile: string
  readonly schedulerConfig: string
  readonly schedulerState: string
  readonly agentConfig: string
  readonly agentState: string
  readonly policy: string
  readonly repository: string
  readonly recoveryKey: string
  readonly pool: string
  readonly network: string
  readonly bridge: string
}

/** Bridge names have at most 15 characters, and three go to the prefix. */
const nameCharactersMax = 12

/** Throws where the name could not be part of a file's, a network's and a device's name. */
export function createSettings(name: string): Settings {
  if (!/^[a-z][a-z0-9-]*$/.test(name) || name.length > nameCharactersMax)
    throw new Error(`--name takes up to ${nameCharactersMax} small letters, digits and dashes, not "${name}"`)
  const root = join(import.meta.dirname, '../..')
  const full = `hostlet-${name}`
  const directory = join('/var/lib', full)
  const image = join(root, '.cache/guest/hostlet-guest.qcow2')
  return {
    name,
    vm: name,
    copy: `${name}-copy`,
    root,
    node: process.execPath,
    main: join(root, 'src/main.ts'),
    image,
    imageDigest: `${image}.sha256`,
    directory,
    runtimeDirectory: join('/run', full),
    poolDirectory: join('/var/lib/libvirt/images', full),
    logDirectory: join(root, '.cache', `${name}-logs`),
    lockFile: join('/run', `${full}.lock`),
    envFile: join(directory, 'env'),
    schedulerConfig: join(directory, 'scheduler.yaml'),
    schedulerState: join(directory, 'scheduler'),
    agentConfig: join(directory, 'agent.yaml'),
    agentState: join(directory, 'agent'),
    policy: join(directory, 'policy.yaml'),
    repository: join(directory, 'repository'),
    recoveryKey: join(directory, 'recovery.jwk'),
    pool: full,
    network: full,
    bridge: `hl-${name}`
  }
}

/**
 * A /24 that overlaps no network of this machine; libvirt refuses one that does. The name says where to begin, so that two
 * that are started at once do not look at the same one first.
 */
export function freeSubnet(name: string): string {
  const addresses = Object.values(networkInterfaces())
    .flatMap((all) => all ?? [])
    .filter(({ family }) => family === 'IPv4')
  const used = new BlockList()
  for (const { address, cidr } of addresses) used.addSubnet(address, Number(cidr?.split('/')[1] ?? 32))
  const first = createHash('sha256').update(name).digest()[0] ?? 0
  for (let tried = 0; tried < 256; tried += 1) {
    const prefix = `10.119.${(first + tried) % 256}`
    // A larger network holds our first address; a smaller one has its own address among ours.
    const overlaps =
      used.check(`${prefix}.0`) || addresses.some(({ address }) => address.startsWith(`${prefix}.`))
    if (!overlaps) return `${prefix}.0/24`
  }
  throw new Missing('10.119.0.0/16 is in use on this machine: free a /24 of it for this')
}
