// Backups as they cross the wire: what a backup was, when they are taken, what is kept, and what became of each run.

import { type Static, Type } from '../lib/schema.ts'
import { ErrorReportSchema } from './command.ts'
import { Bytes, CommandId, HostId, Ipv4, Sentence, strict, Timestamp, Uuid, VmName } from './names.ts'
import { VmSummary } from './vm.ts'

/** Name of a repository in the host's policy file; its address and credentials are never in a command. */
export const RepositoryName = Type.String({
  title: 'the name of a backup repository: lowercase letters, digits and hyphens',
  pattern: '^[a-z][a-z0-9-]{0,30}$'
})
export type RepositoryName = Static<typeof RepositoryName>

export const diskRoles = ['root', 'data'] as const
export const DiskRole = Type.Enum([...diskRoles])
export type DiskRole = (typeof diskRoles)[number]

/** `none`: as after a power cut. `freeze`: file systems at rest by the guest's agent, where there is one. */
export const quiesceModes = ['none', 'freeze'] as const
export const QuiesceMode = Type.Enum([...quiesceModes])
export type QuiesceMode = (typeof quiesceModes)[number]

/** `auto`: what changed since the last backup where that is known. `full`: everything, and a new chain. */
export const backupModes = ['auto', 'full'] as const
export const BackupMode = Type.Enum([...backupModes])
export type BackupMode = (typeof backupModes)[number]

/** `fallback`: all was read and compared, because what changed was not known; `reason` says why. */
export const backupKinds = ['full', 'incremental', 'fallback'] as const
export const BackupKind = Type.Enum([...backupKinds])
export type BackupKind = (typeof backupKinds)[number]

/** `crash`: as after a power cut. `frozen`: file systems at rest. `stopped`: the VM was off. */
export const consistencies = ['crash', 'frozen', 'stopped'] as const
export const Consistency = Type.Enum([...consistencies])
export type Consistency = (typeof consistencies)[number]

export const BackupLimits = Type.Object(
  { bytesPerSecond: Type.Optional(Type.Integer({ minimum: 65_536, maximum: 2 ** 40 })) },
  strict
)

const Count = Type.Integer({ minimum: 0, maximum: 100_000 })
/** Which snapshots stay: the newest of each of so many hours, days and so on. What no rule names goes. */
export const Retention = Type.Object(
  {
    last: Type.Optional(Count),
    hourly: Type.Optional(Count),
    daily: Type.Optional(Count),
    weekly: Type.Optional(Count),
    monthly: Type.Optional(Count),
    yearly: Type.Optional(Count)
  },
  { ...strict, minProperties: 1 }
)
export type Retention = Static<typeof Retention>

/** When the agent backs a VM up by itself. Exactly one of `everyMs` and `cron`. */
export const BackupSchedule = Type.Object(
  {
    target: RepositoryName,
    everyMs: Type.Optional(Type.Integer({ minimum: 60_000, maximum: 366 * 86_400_000 })),
    /** Five fields, in the host's time zone unless `timeZone` is given. */
    cron: Type.Optional(Type.String({ minLength: 9, maxLength: 128 })),
    timeZone: Type.Optional(Type.String({ pattern: '^[A-Za-z0-9_+/-]{1,64}$' })),
    /** A random delay of at most so much, so that a fleet does not begin at once. */
    jitterMs: Type.Optional(Type.Integer({ minimum: 0, maximum: 86_400_000 })),
    quiesce: Type.Optional(QuiesceMode),
    limits: Type.Optional(BackupLimits),
    keep: Type.Optional(Retention)
  },
  strict
)
export type BackupSchedule = Static<typeof BackupSchedule>

/** `known`: the newest snapshot that host or scheduler know is there. `unverifiable`: neither knows one. */
export const freshnesses = ['known', 'unverifiable', 'rolled-back'] as const

/** What the last look at a snapshot found. */
export const Verification = Type.Object(
  {
    at: Timestamp,
    outcome: Type.Enum(['good', 'bad']),
    /** Whether it was also booted. */
    booted: Type.Boolean(),
    /** `known`: it is the newest that host or scheduler know, or newer. `unverifiable`: neither knows one. */
    freshness: Type.Enum([...freshnesses]),
    fault: Type.Optional(Sentence)
  },
  strict
)
export type Verification = Static<typeof Verification>

/** One snapshot of one VM in a repository. */
export const BackupRecord = Type.Object(
  {
    snapshot: Uuid,
    target: RepositoryName,
    vm: VmName,
    uuid: Uuid,
    host: HostId,
    /** Grows by one with each snapshot of a VM in a repository. */
    sequence: Type.Integer({ minimum: 1 }),
    previous: Type.Union([Uuid, Type.Null()]),
    kind: BackupKind,
    reason: Type.Optional(Sentence),
    consistency: Consistency,
    /** The instant whose content it holds. */
    at: Timestamp,
    durationMs: Type.Integer({ minimum: 0 }),
    disks: Type.Array(Type.Object({ role: DiskRole, sizeBytes: Bytes, allocatedBytes: Bytes }, strict), {
      minItems: 1,
      maxItems: 16
    }),
    /** Read from the disks, and stored in the repository after compression and encryption. */
    readBytes: Bytes,
    storedBytes: Bytes
  },
  strict
)
export type BackupRecord = Static<typeof BackupRecord>

export const backupOrigins = ['command', 'schedule'] as const

/** What became of one run of vm.backup, asked for or by schedule: kept by the agent until the scheduler has it. */
export const BackupReport = Type.Object(
  {
    /** Id of the operation. */
    id: CommandId,
    vm: VmName,
    uuid: Uuid,
    target: RepositoryName,
    origin: Type.Enum([...backupOrigins]),
    startedAt: Timestamp,
    finishedAt: Timestamp,
    /** When it is due again by its schedule. */
    nextAt: Type.Optional(Timestamp),
    /** When done. */
    record: Type.Optional(BackupRecord),
    /** Snapshots that its schedule's retention removed. */
    removed: Type.Optional(Type.Array(Uuid, { maxItems: 1_024 })),
    /** When failed. */
    error: Type.Optional(ErrorReportSchema)
  },
  strict
)
export type BackupReport = Static<typeof BackupReport>

/** Bytes of a transfer as far as known, for whoever waits. */
export const TransferProgress = Type.Object(
  {
    doneBytes: Bytes,
    totalBytes: Bytes,
    bytesPerSecond: Bytes,
    remainingMs: Type.Optional(Type.Integer({ minimum: 0 }))
  },
  strict
)
export type TransferProgress = Static<typeof TransferProgress>

// Verbs

/** A snapshot by its id, or the newest. */
export const SnapshotChoice = Type.Union([Uuid, Type.Literal('latest')])

export const VmBackupParams = Type.Object(
  {
    vm: VmName,
    target: RepositoryName,
    disks: Type.Optional(Type.Array(DiskRole, { minItems: 1, maxItems: 2, uniqueItems: true })),
    quiesce: Type.Optional(QuiesceMode),
    mode: Type.Optional(BackupMode),
    limits: Type.Optional(BackupLimits)
  },
  strict
)
export type VmBackupParams = Static<typeof VmBackupParams>

/** `source` is the UUID of the VM that was backed up; `vm` and `uuid` are the VM that is made of it. */
export const VmRestoreParams = Type.Object(
  {
    target: RepositoryName,
    source: Uuid,
    snapshot: SnapshotChoice,
    vm: VmName,
    uuid: Uuid,
    /** Instead of the profile of the backed-up VM. */
    profile: Type.Optional(Type.String({ pattern: '^[a-z][a-z0-9-]{0,30}$' })),
    /** Puts the disks into the existing VM of that name and UUID; its own are removed once the restored ones are ready. */
    replace: Type.Optional(Type.Boolean()),
    /** Starts the VM and waits until it is ready; true unless said otherwise. */
    start: Type.Optional(Type.Boolean()),
    /** The newest snapshot that the scheduler knows of the source, against a repository that was rolled back. */
    expected: Type.Optional(Uuid)
  },
  strict
)
export type VmRestoreParams = Static<typeof VmRestoreParams>

export const VmBackupScheduleParams = Type.Object(
  { vm: VmName, schedule: Type.Union([BackupSchedule, Type.Null()]) },
  strict
)
export const BackupListParams = Type.Object({ target: RepositoryName, source: Type.Optional(Uuid) }, strict)
export const BackupVerifyParams = Type.Object(
  {
    target: RepositoryName,
    source: Uuid,
    snapshot: SnapshotChoice,
    /** Also restores it into a throw-away VM without a network, waits until that is up, and removes it. */
    boot: Type.Optional(Type.Boolean()),
    expected: Type.Optional(Uuid)
  },
  strict
)
export const BackupPruneParams = Type.Object(
  {
    target: RepositoryName,
    source: Uuid,
    keep: Retention,
    /** Only says what would go. */
    dryRun: Type.Optional(Type.Boolean())
  },
  strict
)
export const exportFormats = ['qcow2', 'raw'] as const
export const BackupExportParams = Type.Object(
  {
    target: RepositoryName,
    source: Uuid,
    snapshot: SnapshotChoice,
    disk: DiskRole,
    format: Type.Enum([...exportFormats]),
    /** A file that does not exist, below one of the directories that the host's policy names. */
    path: Type.String({ pattern: '^/[^\\u0000]*$', maxLength: 1_024 })
  },
  strict
)
export const PruneResult = Type.Object(
  {
    kept: Type.Array(Uuid, { maxItems: 16_384 }),
    removed: Type.Array(Uuid, { maxItems: 16_384 }),
    /** Bytes of the repository that came free. */
    freedBytes: Bytes,
    dryRun: Type.Boolean()
  },
  strict
)
export type PruneResult = Static<typeof PruneResult>

// Results

export const VmBackupResult = Type.Object(
  {
    record: BackupRecord,
    /** Why the guest could not be frozen although it was asked for: the snapshot is as after a power cut. */
    freezeFault: Type.Optional(Sentence)
  },
  strict
)
export type VmBackupResult = Static<typeof VmBackupResult>

export const Freshness = Type.Enum([...freshnesses])

export const VmRestoreResult = Type.Object(
  {
    vm: VmSummary,
    address: Ipv4,
    snapshot: Uuid,
    /** The instant whose content the disks have. */
    at: Timestamp,
    freshness: Freshness,
    /** Bytes written to the disks. */
    restoredBytes: Bytes,
    /** What the snapshot did not hold and was made empty, or kept as it was. */
    notRestored: Type.Array(DiskRole, { maxItems: 16 })
  },
  strict
)
export type VmRestoreResult = Static<typeof VmRestoreResult>

/** Snapshots of one list; more are found by asking for one source. */
export const listedSnapshotsMax = 4_096
export const BackupListResult = Type.Object(
  {
    /** The oldest first within a VM. */
    snapshots: Type.Array(BackupRecord, { maxItems: listedSnapshotsMax }),
    /** Manifests that cannot be read, or are not what a host of this fleet wrote. */
    damaged: Type.Array(Type.Object({ uuid: Uuid, snapshot: Uuid, fault: Sentence }, strict), {
      maxItems: listedSnapshotsMax
    }),
    /** VMs whose backups this host holds no key for. */
    locked: Type.Array(Uuid, { maxItems: listedSnapshotsMax })
  },
  strict
)
export type BackupListResult = Static<typeof BackupListResult>

export const BackupVerifyResult = Type.Object(
  {
    snapshot: Uuid,
    source: Uuid,
    verification: Verification,
    blocks: Type.Integer({ minimum: 0 }),
    /** Bytes of the disks that were read back and found sound. */
    readBytes: Bytes,
    /** Each fault with its object and place; the first of them. */
    faults: Type.Array(Sentence, { maxItems: 64 })
  },
  strict
)
export type BackupVerifyResult = Static<typeof BackupVerifyResult>

export const BackupExportResult = Type.Object(
  { snapshot: Uuid, path: Type.String({ maxLength: 1_024 }), sizeBytes: Bytes },
  strict
)
export type BackupExportResult = Static<typeof BackupExportResult>
