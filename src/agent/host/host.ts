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
import { type ConsoleLimits, ConsoleSessions, consoleLimits } from '../console/consoles.ts'
import { createFirewall, type NetworkConfig } from '../firewall/create.ts'
import type { Firewall } from '../firewall/firewall.ts'
import { type Nft, rulesFilePrefix } from '../firewall/nft.ts'
import { resolversOf } from '../firewall/resolvers.ts'
import { HealthProbes } from '../guest/health-probes.ts'
import { emptyLedger, type Ledger } from '../inventory/ledger.ts'
import type { EscrowRecords } from '../keys/escrow-records.ts'
import type { KeyPlace } from '../keys/key-escrow.ts'
import { Keys } from '../keys/keys.ts'
import { Secrets } from '../keys/secrets.ts'
import { EraseCertificates } from '../lifecycle/erase-certificates.ts'
import { Orphans, orphanReportName } from '../orphans/orphans.ts'
import { requireWithinLimits } from '../policy/limits.ts'
import { policyPath } from '../policy/paths.ts'
import type { Profile } from '../profiles.ts'
import { type HostMachine, thisMachine } from '../resources/host-machine.ts'
import { type Reserve, Resources } from '../resources/resources.ts'
import { BootRecord } from './boot-record.ts'
import { Consoles } from './consoles.ts'
import { Facts } from './facts.ts'
import type { Hypervisor } from './hypervisor.ts'
import { ImageSource } from './image-source.ts'
import { Images } from './images.ts'
import { Placements } from './placement.ts'
import { QemuLogs, qemuLogDirectory } from './qemu-logs.ts'
import type { Probes } from './readiness.ts'
import { keepRetainedOff } from './retained.ts'
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
  /** The defaults where it is left out. */
  readonly network?: NetworkConfig
  readonly vmUids: { readonly first: number; readonly count: number }
  /** The defaults where it is left out. */
  readonly reserve?: Reserve
  readonly images: {
    readonly allowFileUrls: readonly string[]
    readonly cacheBytesMax: number
    readonly ca?: string | undefined
  }
  readonly stop: { readonly graceMs: number }
  readonly readyTimeoutMs: number
  /** Encrypted disks that are kept ready; none where it is left out. */
  readonly preparedDisks?: number
  /** Length of the days for which a VM is kept; shorter ones are for tests. */
  readonly retainDayMs?: number
  /** Where the wrapped keys of disks lie; on this host where it is left out. */
  readonly keys?: KeyPlace
  /** The defaults where it is left out. */
  readonly backup?: BackupConfig
  readonly console?: ConsoleLimits
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
  /** Where it is not libvirt's own. */
  readonly qemuLogDirectory?: string
  /** For tests; what is under the agent otherwise. */
  readonly machine?: HostMachine
  /** For tests; the kernel's packet filter otherwise. */
  readonly nft?: Nft
  /** What backups need of the agent; without it they are neither signed nor remembered. */
  readonly backups?: BackupParts
  /** What is remembered of keys at the scheduler; without it the scheduler is told of none. */
  readonly escrow?: EscrowRecords
  /** What the agent's books say of VMs; without them nothing is proven by them. */
  readonly ledger?: Ledger
}

export interface Host {
  readonly hypervisor: Hypervisor
  readonly images: Images
  readonly storage: Storage
  readonly seeds: Seeds
  readonly secrets: Secrets
  readonly consoles: Consoles
  readonly consoleSessions: ConsoleSessions
  readonly qemuLogs: QemuLogs
  readonly placements: Placements
  readonly resources: Resources
  readonly vms: Vms
  readonly health: HealthProbes
  readonly firewall: Firewall
  readonly facts: Facts
  readonly backups: Backups
  readonly keys: Keys
  readonly certificates: EraseCertificates
  readonly bootRecord: BootRecord
  readonly ledger: Ledger
  readonly orphans: Orphans
  readonly config: HostConfig
  readonly clock: Clock
  readonly log: Logger
  /** Makes the directories, and removes what a killed agent left in them. Before the first operation. */
  prepare(): Promise<void>
  /** Lets go of what was opened here; the hypervisor is its owner's to close. */
  close(): Promise<void>
}

export function createHost(options: HostOptions): Host {
  const { config, hypervisor, hostId, agentVersion, clock, log, probes, availableMemoryBytes } = options
  const bootRecord = options.bootRecord ?? new BootRecord({ directory: config.runtimeDirectory })
  const isEncrypted = (profile: string) => config.profiles[profile]?.encryption === true
  const { backup = backupDefaults } = config
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
  const { profiles, vmUids, reserve = reserveDefault } = config
  const machine = options.machine ?? thisMachine
  const resources = new Resources({ hypervisor, profiles, reserve, machine, log })
  const resolvers = resolversOf(config.network?.resolvers ?? [])
  const firewall = createFirewall(options, resolvers)
  const placements = new Placements({
    hypervisor,
    profiles,
    resolvers,
    vmUids,
    resources,
    isEncrypted,
    admit: async (specification, vms) => {
      requireWithinLimits(backup.policy, specification, vms)
      await firewall.requireAllowed(specification, vms)
    }
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
  const parts = options.backups ?? backupPartsInMemory()
  const backups = createBackups({
    ...options,
    ...parts,
    config: backup,
    stateDirectory: config.stateDirectory,
    runtimeDirectory: config.runtimeDirectory,
    sealed: keys.sealed
  })
  const health = new HealthProbes({ clock, log })
  hypervisor.onEvent((event) => health.take(event))
  const ledger = options.ledger ?? emptyLedger
  const orphans = new Orphans({
    hypervisor,
    placements,
    images,
    // Where they lie at the scheduler, none is a leftover of this host.
    keys: config.keys === 'scheduler' ? noKeys : keys.disks,
    ledger,
    seedDirectory: join(config.runtimeDirectory, 'seeds'),
    consoleDirectory: join(config.runtimeDirectory, 'console'),
    qemuLogDirectory: options.qemuLogDirectory ?? qemuLogDirectory,
    reportPath: join(config.runtimeDirectory, orphanReportName),
    clock,
    log
  })
  const gate = hypervisor.addStartGate(keepRetainedOff)
  return {
    hypervisor,
    clock,
    log,
    config,
    bootRecord,
    ledger,
    orphans,
    placements,
    resources,
    images,
    seeds,
    secrets: new Secrets(() => keys.hostKey),
    keys,
    certificates: new EraseCertificates({ ...options, identity: parts.identity }),
    storage: new Storage({ hypervisor, sealed: keys.sealed }),
    consoles: new Consoles({ directory: join(config.runtimeDirectory, 'console') }),
    consoleSessions: new ConsoleSessions({ hypervisor, limits: config.console ?? consoleLimits, clock, log }),
    qemuLogs: new QemuLogs({ log, ...(options.qemuLogDirectory && { directory: options.qemuLogDirectory }) }),
    vms: new Vms({
      hypervisor,
      placements,
      starts,
      health,
      clock,
      readyTimeoutMs,
      resources,
      ...(probes && { probes }),
      ...(availableMemoryBytes && { availableMemoryBytes })
    }),
    firewall,
    health,
    facts: new Facts({
      hypervisor,
      hostId,
      agentVersion,
      secretsKey: () => keys.publicKey,
      capacity: (wait) => resources.capacity(wait)
    }),
    backups,
    prepare: async () => {
      await prepareRuntimeDirectory(config.runtimeDirectory)
      await Promise.all([images.prepare(), seeds.prepare(), starts.load(), backups.repositories.prepare()])
      await keys.prepare()
      firewall.begin()
      orphans.begin()
    },
    close: async () => {
      gate[Symbol.dispose]()
      await firewall[Symbol.asyncDispose]()
      await orphans[Symbol.asyncDispose]()
      await health[Symbol.asyncDispose]()
      await keys[Symbol.asyncDispose]()
      await starts.flush()
      await source.close()
    }
  }
}

const noKeys = { list: () => [], discard: () => false }

const reserveDefault: Reserve = { memoryBytes: 1024 ** 3, cores: 1 }

const backupDefaults: BackupConfig = {
  policy: policyPath,
  compressionLevel: 1,
  freezeMs: 10_000
}

/** None on a host whose disks are all in clear. */
function preparedDisksOf({ preparedDisks = 0, profiles }: HostConfig): number {
  return Object.values(profiles).some(({ encryption }) => encryption) ? preparedDisks : 0
}

/** Makes the runtime directory such that QEMU's users can pass through to their seeds, and nobody can list it. */
async function prepareRuntimeDirectory(path: string): Promise<void> {
  await mkdir(path, { recursive: true, mode: 0o711 })
  const { mode } = await stat(path)
  if ((mode & 0o001) === 0) await chmod(path, (mode & 0o777) | 0o011)
  await mkdir(join(path, 'console'), { recursive: true, mode: 0o700 })
  // A key of a scratch file that a killed agent was making, rules that it was applying.
  for (const name of await readdir(path)) {
    const isLeft = name.startsWith(privateWorkPrefix) || name.startsWith(rulesFilePrefix)
    if (isLeft) await rm(join(path, name), { recursive: true, force: true })
  }
}
