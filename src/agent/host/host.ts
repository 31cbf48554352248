// The host as verbs see it: everything that a step may use, made once from the configuration.

import { chmod, mkdir, readdir, rm, stat } from 'node:fs/promises'
import { join } from 'node:path'
import type { Clock } from '../../lib/clock.ts'
import type { Logger } from '../../lib/log.ts'
import {
  type BackupConfig,
  type BackupParts,
  type Backups,
  backupPartsInMemory,
  createBackups
} from '../backups/backups.ts'
import { policyPath } from '../backups/policy.ts'
import { createFirewall, type NetworkConfig } from '../firewall/create.ts'
import type { Firewall } from '../firewall/firewall.ts'
import { type Nft, rulesFilePrefix } from '../firewall/nft.ts'
import { resolversOf } from '../firewall/resolvers.ts'
import type { Profile } from '../profiles.ts'
import { BootRecord } from './boot-record.ts'
import { Consoles } from './consoles.ts'
import { Facts } from './facts.ts'
import type { Hypervisor } from './hypervisor.ts'
import { ImageSource } from './image-source.ts'
import { Images } from './images.ts'
import { Orphans } from './orphans.ts'
import { Placements } from './placement.ts'
import type { Probes } from './readiness.ts'
import { scratchWorkPrefix } from './scratch.ts'
import { Seeds } from './seed.ts'
import { Storage } from './storage.ts'
import { VmStarts } from './vm-starts.ts'
import { Vms } from './vms.ts'

/** The parts of the agent's configuration that are about the host. */
export interface HostConfig {
  readonly stateDirectory: string
  readonly runtimeDirectory: string
  readonly profiles: Readonly<Record<string, Profile>>
  /** The defaults where it is left out. */
  readonly network?: NetworkConfig
  readonly vmUids: { readonly first: number; readonly count: number }
  readonly images: {
    readonly allowFileUrls: readonly string[]
    readonly cacheBytesMax: number
    readonly ca?: string | undefined
  }
  readonly stop: { readonly graceMs: number }
  readonly readyTimeoutMs: number
  /** The defaults where it is left out. */
  readonly backup?: BackupConfig
}

export interface HostOptions {
  readonly config: HostConfig
  readonly hypervisor: Hypervisor
  readonly hostId: string
  readonly agentVersion: string
  readonly clock: Clock
  readonly log: Logger
  readonly bootRecord?: BootRecord
  /** For tests; real connections otherwise. */
  readonly probes?: Probes
  readonly availableMemoryBytes?: () => number
  /** For tests; the kernel's packet filter otherwise. */
  readonly nft?: Nft
  /** What backups need of the agent; without it they are neither signed nor remembered. */
  readonly backups?: BackupParts
}

export interface Host {
  readonly hypervisor: Hypervisor
  readonly images: Images
  readonly storage: Storage
  readonly seeds: Seeds
  readonly consoles: Consoles
  readonly placements: Placements
  readonly vms: Vms
  readonly firewall: Firewall
  readonly facts: Facts
  readonly backups: Backups
  readonly bootRecord: BootRecord
  readonly config: HostConfig
  readonly clock: Clock
  readonly log: Logger
  /** Makes the directories, and removes what a killed agent left in them. Before the first operation. */
  prepare(): Promise<void>
  /** Lets go of what was opened here; the hypervisor is its owner's to close. */
  close(): Promise<void>
}

export function createHost(options: HostOptions): Host {
  const { config, hypervisor, clock, log, probes, availableMemoryBytes } = options
  const bootRecord = options.bootRecord ?? new BootRecord({ directory: config.runtimeDirectory })
  const { profiles, vmUids } = config
  const resolvers = resolversOf(config.network?.resolvers ?? [])
  const firewall = createFirewall(options, resolvers)
  const placements = new Placements({
    hypervisor,
    profiles,
    resolvers,
    vmUids,
    admit: (specification, vms) => firewall.requireAllowed(specification, vms)
  })
  const source = new ImageSource(config.images)
  const starts = new VmStarts({ bootRecord, log })
  const { readyTimeoutMs } = config
  const seeds = new Seeds({ directory: join(config.runtimeDirectory, 'seeds') })
  const images = new Images({
    hypervisor,
    source,
    clock,
    log,
    directory: join(config.stateDirectory, 'images'),
    cacheBytesMax: config.images.cacheBytesMax,
    bootId: bootRecord.bootId
  })
  const { backup = backupDefaults } = config
  const backups = createBackups({
    ...options,
    ...(options.backups ?? backupPartsInMemory()),
    config: backup,
    stateDirectory: config.stateDirectory
  })
  const orphans = new Orphans({ hypervisor, placements, seeds, clock, log })
  return {
    hypervisor,
    clock,
    log,
    config,
    bootRecord,
    placements,
    images,
    seeds,
    storage: new Storage({ hypervisor }),
    consoles: new Consoles({ directory: join(config.runtimeDirectory, 'console') }),
    vms: new Vms({
      hypervisor,
      placements,
      starts,
      clock,
      readyTimeoutMs,
      ...(probes && { probes }),
      ...(availableMemoryBytes && { availableMemoryBytes })
    }),
    firewall,
    facts: new Facts(options),
    backups,
    prepare: async () => {
      await prepareRuntimeDirectory(config.runtimeDirectory)
      await Promise.all([images.prepare(), seeds.prepare(), starts.load(), backups.repositories.prepare()])
      firewall.begin()
      orphans.begin()
    },
    close: async () => {
      await firewall[Symbol.asyncDispose]()
      await orphans[Symbol.asyncDispose]()
      await starts.flush()
      await source.close()
    }
  }
}

const backupDefaults: BackupConfig = {
  policy: policyPath,
  compressionLevel: 1,
  freezeMs: 10_000
}

/** Makes the runtime directory such that QEMU's users can pass through to their seeds, and nobody can list it. */
async function prepareRuntimeDirectory(path: string): Promise<void> {
  await mkdir(path, { recursive: true, mode: 0o711 })
  const { mode } = await stat(path)
  if ((mode & 0o001) === 0) await chmod(path, (mode & 0o777) | 0o011)
  await mkdir(join(path, 'console'), { recursive: true, mode: 0o700 })
  // A key of a scratch file that a killed agent was making, rules that it was applying.
  for (const name of await readdir(path)) {
    if (name.startsWith(scratchWorkPrefix) || name.startsWith(rulesFilePrefix)) await rm(join(path, name), { recursive: true, force: true })
  }
}
