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
import type { EscrowRecords } from '../keys/escrow-records.ts'
import type { KeyPlace } from '../keys/key-escrow.ts'
import { Keys } from '../keys/keys.ts'
import type { Profile } from '../profiles.ts'
import { BootRecord } from './boot-record.ts'
import { Consoles } from './consoles.ts'
import { Facts } from './facts.ts'
import type { Hypervisor } from './hypervisor.ts'
import { ImageSource } from './image-source.ts'
import { Images } from './images.ts'
import type { NetworkDefinition } from './network-xml.ts'
import { Orphans } from './orphans.ts'
import { Placements } from './placement.ts'
import type { Probes } from './readiness.ts'
import { privateWorkPrefix } from './scratch.ts'
import { Seeds } from './seed.ts'
import { Storage } from './storage.ts'
import { VmStarts } from './vm-starts.ts'
import { Vms } from './vms.ts'

/** The parts of the agent's configuration that are about the host. */
export interface HostConfig {
  readonly stateDirectory: string
  readonly runtimeDirectory: string
  readonly profiles: Readonly<Record<string, Profile>>
  readonly vmUids: { readonly first: number; readonly count: number }
  readonly images: {
    readonly allowFileUrls: readonly string[]
    readonly cacheBytesMax: number
    readonly ca?: string | undefined
  }
  readonly stop: { readonly graceMs: number }
  readonly readyTimeoutMs: number
  /** Encrypted disks that are kept ready; none where it is left out. */
  readonly preparedDisks?: number
  /** Where the wrapped keys of disks lie; on this host where it is left out. */
  readonly keys?: KeyPlace
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
  /** What backups need of the agent; without it they are neither signed nor remembered. */
  readonly backups?: BackupParts
  /** What is remembered of keys at the scheduler; without it the scheduler is told of none. */
  readonly escrow?: EscrowRecords
}

export interface Host {
  readonly hypervisor: Hypervisor
  readonly images: Images
  readonly storage: Storage
  readonly seeds: Seeds
  readonly consoles: Consoles
  readonly placements: Placements
  readonly vms: Vms
  readonly facts: Facts
  readonly backups: Backups
  readonly keys: Keys
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
  const isEncrypted = (profile: string) => config.profiles[profile]?.encryption === true
  const { vmUids, backup = backupDefaults } = config
  const placements = new Placements({ hypervisor, profiles: networksOf(config), vmUids, isEncrypted })
  const keys = new Keys({
    ...config,
    hypervisor,
    clock,
    log,
    credentialsDirectory: options.backups?.credentialsDirectory,
    preparedDisks: preparedDisksOf(config),
    policyPath: backup.policy,
    escrow: options.escrow
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
  const backups = createBackups({
    ...options,
    ...(options.backups ?? backupPartsInMemory()),
    config: backup,
    stateDirectory: config.stateDirectory,
    runtimeDirectory: config.runtimeDirectory,
    sealed: keys.sealed
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
    keys,
    storage: new Storage({ hypervisor, sealed: keys.sealed }),
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
    facts: new Facts({ ...options, secretsKey: () => keys.publicKey }),
    backups,
    prepare: async () => {
      await prepareRuntimeDirectory(config.runtimeDirectory)
      await Promise.all([images.prepare(), seeds.prepare(), starts.load(), backups.repositories.prepare()])
      await keys.prepare()
      orphans.begin()
    },
    close: async () => {
      await orphans[Symbol.asyncDispose]()
      await keys[Symbol.asyncDispose]()
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

/** None on a host whose disks are all in clear. */
function preparedDisksOf({ preparedDisks = 0, profiles }: HostConfig): number {
  return Object.values(profiles).some(({ encryption }) => encryption) ? preparedDisks : 0
}

function networksOf({ profiles }: HostConfig): Record<string, NetworkDefinition> {
  const definitions = Object.entries(profiles).map(
    ([profile, { network: name, bridge, subnet }]) => [profile, { name, bridge, subnet }] as const
  )
  return Object.fromEntries(definitions)
}

/** Makes the runtime directory such that QEMU's users can pass through to their seeds, and nobody can list it. */
async function prepareRuntimeDirectory(path: string): Promise<void> {
  await mkdir(path, { recursive: true, mode: 0o711 })
  const { mode } = await stat(path)
  if ((mode & 0o001) === 0) await chmod(path, (mode & 0o777) | 0o011)
  await mkdir(join(path, 'console'), { recursive: true, mode: 0o700 })
  // A key of a scratch file that a killed agent was making.
  for (const name of await readdir(path)) {
    if (name.startsWith(privateWorkPrefix)) await rm(join(path, name), { recursive: true, force: true })
  }
}
