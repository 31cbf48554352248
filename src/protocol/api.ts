// Every request and answer of the scheduler's HTTP API, one schema each; the types follow from the schemas.

import { type Static, Type } from '../lib/schema.ts'
import { ApprovalText, ApproverName } from './approval.ts'
import {
  BackupExportParams,
  BackupPruneParams,
  BackupRecord,
  BackupSchedule,
  backupOrigins,
  RepositoryName,
  SnapshotChoice,
  TransferProgress,
  Verification,
  VmBackupParams,
  VmRestoreParams
} from './backup.ts'
import { commandBytesMax, ErrorReportSchema } from './command.ts'
import { ConsoleTicket } from './console.ts'
import { DriftItem, driftItemsMax } from './drift.ts'
import { CaHash } from './enrollment.ts'
import { AdoptedKeys, DiskKeyId, GeneralJwe } from './keys.ts'
import {
  EraseCertificate,
  EraseCertificateText,
  retainDaysMax,
  VmReimageParams,
  VmTeardownParams
} from './lifecycle.ts'
import { Condition, vmEventKinds } from './messages.ts'
import { HostSample, VmSample } from './metrics.ts'
import {
  CommandId,
  HostId,
  Ipv4,
  MacAddress,
  Milliseconds,
  ProfileName,
  Sentence,
  Sha256,
  ShortText,
  strict,
  Timestamp,
  Uuid,
  VerbName,
  VmName
} from './names.ts'
import { Labels, PlacementWish } from './placement.ts'
import { vmSizeFields } from './resize.ts'
import { TrailLink } from './trail.ts'
import { TrustSerial } from './trust.ts'
import {
  ForeignDomain,
  HostFacts,
  healthProbesMax,
  ImageReference,
  ProbeHealth,
  Seed,
  sealedCharactersMax,
  userDataBytesMax,
  VmNetwork,
  VmSpecification,
  VmState,
  vmStates
} from './vm.ts'
import { OperationWait } from './waiting.ts'

export { LabelsReply, LabelsRequest, PlacementReply, PlacementRequest } from './placement.ts'

/** Longest body of a request. */
export const requestBytesMax = 1024 * 1024
/** Most items that one list answers with; `more` says that there were others. */
export const listItemsMax = 1_000
/** Longest single wait of `/v1/operations/{id}/wait`; ask again for more. */
export const waitMsMax = 60_000
/** Header that makes a POST repeatable: the same key and body answer with the same operation. */
export const idempotencyHeader = 'idempotency-key'

/** What a key may do. Each tier includes the ones before it. */
export const apiTiers = ['read', 'manage', 'admin'] as const
export type ApiTier = (typeof apiTiers)[number]

/** The body of every answer that is not a success. */
export const ApiError = Type.Object({ error: ErrorReportSchema }, strict)
export type ApiError = Static<typeof ApiError>

/** The text of a new API key: shown once, stored hashed. */
export const ApiKeyText = Type.String({ pattern: '^hlk_[A-Za-z0-9_-]{43}$' })
const Note = ShortText
const Limit = Type.Optional(Type.Integer({ minimum: 1, maximum: listItemsMax, default: 100 }))

/** Answer of `DELETE` where nothing but success is to be told. */
export const Removed = Type.Object({ removed: Type.Literal(true) }, strict)
export type Removed = Static<typeof Removed>

// Status

export const HealthView = Type.Object({ status: Type.Literal('ok') }, strict)
export type HealthView = Static<typeof HealthView>

export const StatusView = Type.Object(
  {
    version: ShortText,
    protocol: Type.Integer(),
    trustDomain: ShortText,
    caHash: CaHash,
    now: Timestamp,
    startedAt: Timestamp,
    hosts: Type.Object({ total: Type.Integer(), connected: Type.Integer(), away: Type.Integer() }, strict),
    vms: Type.Object({ total: Type.Integer(), running: Type.Integer() }, strict),
    operations: Type.Object({ open: Type.Integer() }, strict),
    /** How long VMs that are removed are kept where nobody says otherwise; 0: not at all. */
    retainDays: Type.Integer({ minimum: 0 })
  },
  strict
)
export type StatusView = Static<typeof StatusView>

// Hosts

export const hostStates = ['new', 'connected', 'away', 'revoked'] as const
/** A host as the scheduler knows it. `reason` says in words why it is in its state. */
export const HostView = Type.Object(
  {
    id: HostId,
    hostname: ShortText,
    /** `new`: enrolled, never connected. `away`: was connected, is not now. */
    state: Type.Enum([...hostStates]),
    reason: Sentence,
    enrolledAt: Timestamp,
    certificateExpiresAt: Timestamp,
    connectedAt: Type.Optional(Timestamp),
    lastSeenAt: Type.Optional(Timestamp),
    agentVersion: Type.Optional(ShortText),
    verbs: Type.Array(VerbName),
    /** Whether the agent reaches its libvirt, as of its last heartbeat; nobody knows while the host is away. */
    hypervisor: Type.Enum(['connected', 'away', 'unknown']),
    operationsRunning: Type.Integer({ minimum: 0 }),
    operationsWaiting: Type.Integer({ minimum: 0 }),
    /** Since when it takes no new work, as of its last heartbeat; absent while it does. */
    drainingSince: Type.Optional(Timestamp),
    /** What the host said of itself, and what the scheduler found about it. */
    conditions: Type.Array(Condition),
    /** The host's clock minus the scheduler's at its last heartbeat, in milliseconds. */
    clockSkewMs: Type.Optional(Type.Integer()),
    vmCount: Type.Integer({ minimum: 0 }),
    foreignCount: Type.Integer({ minimum: 0 }),
    /** Those that people set; absent where there are none. */
    labels: Type.Optional(Labels),
    facts: Type.Optional(HostFacts)
  },
  strict
)
export type HostView = Static<typeof HostView>

/** `waitMs`: how long the operation waits for what runs; a day unless it is given. The host stays drained after that. */
export const DrainRequest = Type.Object({ waitMs: Type.Optional(Milliseconds) }, strict)
export type DrainRequest = Static<typeof DrainRequest>

/** `label`: only hosts with all of these, as `region=eu,rack=r1`. */
export const HostQuery = Type.Object(
  {
    label: Type.Optional(
      Type.String({
        title: 'labels such as region=eu,rack=r1',
        pattern: '^[a-z0-9/._-]+=[A-Za-z0-9._-]+(,[a-z0-9/._-]+=[A-Za-z0-9._-]+)*$',
        maxLength: 1_024
      })
    )
  },
  strict
)
export type HostQuery = Static<typeof HostQuery>

export const HostList = Type.Object({ hosts: Type.Array(HostView), more: Type.Boolean() }, strict)
export type HostList = Static<typeof HostList>

/** One host with the domains on it that are not ours. */
export const HostDetail = Type.Object({ host: HostView, foreign: Type.Array(ForeignDomain) }, strict)
export type HostDetail = Static<typeof HostDetail>

/** The answer to `POST /v1/hosts/{id}/settle`. */
export const Settled = Type.Object({ settled: Type.Literal(true) }, strict)
export type Settled = Static<typeof Settled>

// Join tokens

export const CreateTokenRequest = Type.Object(
  {
    ttlSeconds: Type.Optional(Type.Integer({ minimum: 10, maximum: 604_800, default: 3_600 })),
    note: Type.Optional(Note)
  },
  strict
)
export type CreateTokenRequest = Static<typeof CreateTokenRequest>

/** A new token. `token` is shown this once; `command` is the line to run on the new host. */
export const CreatedToken = Type.Object(
  {
    id: Uuid,
    token: Type.String(),
    /** Address, CA and token in one word; see join-token.ts. */
    join: Type.String(),
    expiresAt: Timestamp,
    caHash: CaHash,
    url: Type.String(),
    command: Type.String()
  },
  strict
)
export type CreatedToken = Static<typeof CreatedToken>

export const TokenView = Type.Object(
  {
    id: Uuid,
    state: Type.Enum(['open', 'used', 'expired']),
    note: Note,
    createdAt: Timestamp,
    expiresAt: Timestamp,
    usedAt: Type.Optional(Timestamp),
    host: Type.Optional(HostId)
  },
  strict
)
export type TokenView = Static<typeof TokenView>

export const TokenList = Type.Object({ tokens: Type.Array(TokenView), more: Type.Boolean() }, strict)
export type TokenList = Static<typeof TokenList>

// Operations

export const operationStates = ['waiting', 'sent', 'running', 'done', 'failed', 'expired'] as const
export type OperationState = (typeof operationStates)[number]
export const operationStatesEnded: readonly OperationState[] = ['done', 'failed', 'expired']

/** What became of one command. Its id is the command's. `next` tells a person what happens or what to do now. */
export const OperationView = Type.Object(
  {
    id: CommandId,
    verb: VerbName,
    host: HostId,
    vm: Type.Optional(VmName),
    /** `waiting`: for its host, or for the next try after its host refused it for now. `sent`: not acknowledged yet. `expired`: the host never took it in time. */
    state: Type.Enum([...operationStates]),
    step: Type.Optional(ShortText),
    stepIndex: Type.Optional(Type.Integer({ minimum: 0 })),
    steps: Type.Optional(Type.Integer({ minimum: 1 })),
    ratio: Type.Optional(Type.Number({ minimum: 0, maximum: 1 })),
    note: Type.Optional(ShortText),
    /** Bytes of the step, where it moves some. */
    transfer: Type.Optional(TransferProgress),
    /** What it waits for on its host, as of the last heartbeat, before it begins or while libvirt is away there. */
    wait: Type.Optional(OperationWait),
    createdAt: Timestamp,
    expiresAt: Timestamp,
    startedAt: Type.Optional(Timestamp),
    finishedAt: Type.Optional(Timestamp),
    /** The verb's result, when done. */
    value: Type.Optional(Type.Record(Type.String(), Type.Unknown())),
    error: Type.Optional(ErrorReportSchema),
    /** Its host takes it once somebody else has signed it too: "hostlet approve". */
    awaits: Type.Optional(Type.Literal('approval')),
    next: Sentence
  },
  strict
)
export type OperationView = Static<typeof OperationView>

export const OperationReply = Type.Object({ operation: OperationView }, strict)
export type OperationReply = Static<typeof OperationReply>

/** The operation that opens a console, and how to attach to it once that is done. */
export const ConsoleReply = Type.Object(
  {
    operation: OperationView,
    session: Uuid,
    /** Opens the session once, to who asked for it. Told to nobody again. */
    ticket: ConsoleTicket,
    /** Path of its WebSocket, subprotocol `hostlet-console.v1`. */
    socket: Type.String({ maxLength: 128 })
  },
  strict
)
export type ConsoleReply = Static<typeof ConsoleReply>

/** Somebody's signature under a command. Whose it is, and whether it counts, only the host can tell. */
export const ApprovalView = Type.Object({ approver: ApproverName, receivedAt: Timestamp }, strict)
export type ApprovalView = Static<typeof ApprovalView>

/** A command as it was signed, for whoever is to approve it. */
export const SignedCommandReply = Type.Object(
  {
    operation: OperationView,
    /** Compact JWS. Absent once the operation has ended. */
    command: Type.Optional(Type.String({ maxLength: commandBytesMax })),
    approvals: Type.Array(ApprovalView)
  },
  strict
)
export type SignedCommandReply = Static<typeof SignedCommandReply>

export const NewApproval = Type.Object({ approval: ApprovalText }, strict)

export const OperationList = Type.Object(
  { operations: Type.Array(OperationView), more: Type.Boolean() },
  strict
)
export type OperationList = Static<typeof OperationList>

/** Verbs that only look at a host or at a VM: nothing is other than before. */
export const lookingVerbs = [
  'backup.list',
  'host.facts',
  'operation.plan',
  'vm.audit',
  'vm.list',
  'vm.specification',
  'vm.state'
] as const

export const OperationQuery = Type.Object(
  {
    /** Those that change it, and those that are about it. */
    vm: Type.Optional(VmName),
    host: Type.Optional(HostId),
    state: Type.Optional(Type.Enum([...operationStates])),
    /** Only those that have not ended, or only those that have. */
    open: Type.Optional(Type.Boolean()),
    /** Only those that only look, or only others; all without it. */
    looks: Type.Optional(Type.Boolean()),
    limit: Limit
  },
  strict
)
export type OperationQuery = Static<typeof OperationQuery>

export const WaitQuery = Type.Object(
  { timeoutMs: Type.Optional(Type.Integer({ minimum: 0, maximum: waitMsMax, default: 30_000 })) },
  strict
)
export type WaitQuery = Static<typeof WaitQuery>

// VMs

export const vmViewStates = ['pending', ...vmStates, 'retained', 'missing'] as const

/** A VM as the scheduler knows it: what was asked for, and what its host last said. */
export const VmView = Type.Object(
  {
    name: VmName,
    uuid: Uuid,
    host: HostId,
    /** `pending`: its host has not reported it yet. `retained`: torn down, kept off until `retainedUntil`. `missing`: its host reported it before, and no longer does. */
    state: Type.Enum([...vmViewStates]),
    reason: Sentence,
    wanted: Type.Enum(['running', 'stopped']),
    generation: Type.Integer({ minimum: 0 }),
    profile: ProfileName,
    cpus: Type.Integer({ minimum: 1 }),
    memoryBytes: Type.Integer({ minimum: 0 }),
    address: Type.Optional(Ipv4),
    macAddress: Type.Optional(MacAddress),
    startedAt: Type.Optional(Timestamp),
    /** Of its services, as its host sees them from outside; all unknown while nobody looks. */
    health: Type.Optional(Type.Array(ProbeHealth, { maxItems: healthProbesMax })),
    /** Where it is not as its host's records say; last known while the host is away. */
    drift: Type.Optional(Type.Array(DriftItem, { maxItems: driftItemsMax })),
    createdAt: Timestamp,
    /** When its host last reported it. */
    reportedAt: Type.Optional(Timestamp),
    /** False while the host is away: state and address are the last known. */
    fresh: Type.Boolean(),
    /** Its newest operation. */
    operation: Type.Optional(CommandId),
    /** What it wished of its host when it was made. */
    placement: Type.Optional(PlacementWish),
    /** What was asked for, without user data and keys. Absent for a VM that was found on its host. */
    image: Type.Optional(ImageReference),
    rootDiskBytes: Type.Optional(Type.Integer({ minimum: 0 })),
    dataDiskBytes: Type.Optional(Type.Integer({ minimum: 0 })),
    /** It is erased then, unless somebody has it back. */
    retainedUntil: Type.Optional(Timestamp),
    network: Type.Optional(VmNetwork)
  },
  strict
)
export type VmView = Static<typeof VmView>

export const VmList = Type.Object({ vms: Type.Array(VmView), more: Type.Boolean() }, strict)
export type VmList = Static<typeof VmList>

export const VmReply = Type.Object({ vm: VmView }, strict)
export type VmReply = Static<typeof VmReply>

/** In the order of names, from the one after `after` on. */
export const VmQuery = Type.Object(
  {
    host: Type.Optional(HostId),
    state: Type.Optional(Type.Enum([...vmViewStates])),
    /** Part of the name, the host's id, the profile or the address. */
    search: Type.Optional(ShortText),
    /** Only those with something amiss: not as wanted, missing, drifted, or with a service that is unhealthy. */
    amiss: Type.Optional(Type.Boolean()),
    after: Type.Optional(VmName),
    limit: Limit
  },
  strict
)
export type VmQuery = Static<typeof VmQuery>

const { userData: _sealed, ...seedFields } = Seed.properties
/** As a person asks for it. The scheduler keeps neither of the two texts. */
export const SeedRequest = Type.Object(
  {
    ...seedFields,
    /** Encrypted for the chosen host before anything is written down. */
    userData: Type.Optional(Type.String({ maxLength: userDataBytesMax })),
    /** The same, encrypted by the asker for the host that the request names; its header names the VM's UUID. */
    userDataJwe: Type.Optional(Type.String({ maxLength: sealedCharactersMax }))
  },
  strict
)
export type SeedRequest = Static<typeof SeedRequest>

const { uuid: _chosenByScheduler, seed: _agents, ...specificationFields } = VmSpecification.properties
/** A VM's specification without its UUID, which the scheduler chooses, or who sealed its user data. */
export const VmSpecificationRequest = Type.Object(
  { ...specificationFields, seed: Type.Optional(SeedRequest) },
  strict
)
export type VmSpecificationRequest = Static<typeof VmSpecificationRequest>

/** Without `host` the scheduler chooses one, by what the VM needs and `placement` wishes. */
export const CreateVmRequest = Type.Object(
  {
    specification: VmSpecificationRequest,
    host: Type.Optional(HostId),
    placement: Type.Optional(PlacementWish)
  },
  strict
)
export type CreateVmRequest = Static<typeof CreateVmRequest>

const { vm: _named, seed: _forAgents, ...reimageFields } = VmReimageParams.properties
/** Body of `POST /v1/vms/{name}/reimage`. */
export const ReimageRequest = Type.Object({ ...reimageFields, seed: Type.Optional(SeedRequest) }, strict)
export type ReimageRequest = Static<typeof ReimageRequest>

export const StopVmRequest = Type.Object(
  {
    /** How long the guest may take to shut down before its power is cut. The host's default when absent. */
    graceMs: Type.Optional(Milliseconds),
    /** Cuts the power at once. */
    force: Type.Optional(Type.Boolean())
  },
  strict
)
export type StopVmRequest = Static<typeof StopVmRequest>

/** Body of `POST /v1/vms/{name}/repair` and `POST /v1/hosts/{id}/clean`. */
export const DryRunRequest = Type.Object({ dryRun: Type.Optional(Type.Boolean()) }, strict)
export type DryRunRequest = Static<typeof DryRunRequest>

export const RebootVmRequest = Type.Object({ force: Type.Optional(Type.Boolean()) }, strict)
export type RebootVmRequest = Static<typeof RebootVmRequest>

/** Body of `POST /v1/vms/{name}/resize`: what is absent stays as it is. */
export const ResizeVmRequest = Type.Object(vmSizeFields, { ...strict, minProperties: 1 })
export type ResizeVmRequest = Static<typeof ResizeVmRequest>

const { backups: withBackups } = VmTeardownParams.properties
/**
 * Query of `DELETE /v1/vms/{name}`; `backups` takes tier admin. Without `retainDays` as the scheduler is configured; 0: it is
 * erased at once.
 */
export const TeardownQuery = Type.Object(
  {
    retainDays: Type.Optional(Type.Integer({ minimum: 0, maximum: retainDaysMax })),
    backups: withBackups
  },
  strict
)
export type TeardownQuery = Static<typeof TeardownQuery>

/** A VM by its name, the last that had it, or by its UUID: also one that is gone. */
export const ErasedVm = Type.Union([VmName, Uuid])

/** What the host signed of an erase. */
export const EraseCertificateReply = Type.Object(
  {
    certificate: EraseCertificateText,
    claims: EraseCertificate,
    /** Whether a host of this fleet had signed it, when it came. */
    verified: Type.Boolean(),
    fault: Type.Optional(Sentence),
    receivedAt: Timestamp
  },
  strict
)
export type EraseCertificateReply = Static<typeof EraseCertificateReply>

/** Body of actions that need no words. */
export const EmptyRequest = Type.Object({}, strict)
export type EmptyRequest = Static<typeof EmptyRequest>

/** Body of `POST /v1/hosts/{id}/images`. */
export const PrefetchRequest = ImageReference
export type PrefetchRequest = Static<typeof PrefetchRequest>

// Backups

const { vm: _inPath, ...backupFields } = VmBackupParams.properties
/** Body of `POST /v1/vms/{name}/backup`. */
export const BackupRequest = Type.Object(backupFields, strict)
export type BackupRequest = Static<typeof BackupRequest>

/** The VM that was backed up: by its name where that says which, or by its UUID. */
export const BackupSource = Type.Union([VmName, Uuid])

export const RestoreRequest = Type.Object(
  {
    source: BackupSource,
    /** The newest that is known when absent. */
    snapshot: Type.Optional(SnapshotChoice),
    /** Needed only where the scheduler knows no backup of the source, or knows some in several repositories. */
    target: Type.Optional(RepositoryName),
    /** Name of the VM that is made, or with `replace` of the one whose disks are replaced; the source's when absent. */
    name: Type.Optional(VmName),
    /** Host of a new VM. Without it the best of those that know the repository. */
    host: Type.Optional(HostId),
    placement: Type.Optional(PlacementWish),
    profile: VmRestoreParams.properties.profile,
    replace: VmRestoreParams.properties.replace,
    start: VmRestoreParams.properties.start
  },
  strict
)
export type RestoreRequest = Static<typeof RestoreRequest>

/** A snapshot as its host told of it, and what became known since. */
export const BackupView = Type.Object(
  {
    ...BackupRecord.properties,
    /** Absent for one that was found in a repository and never reported. */
    operation: Type.Optional(CommandId),
    origin: Type.Optional(Type.Enum([...backupOrigins])),
    /** What the last look at it found; absent where nobody has looked. */
    verification: Type.Optional(Verification),
    removedAt: Type.Optional(Timestamp)
  },
  strict
)
export type BackupView = Static<typeof BackupView>

export const BackupReply = Type.Object({ backup: BackupView }, strict)
export type BackupReply = Static<typeof BackupReply>

/** Newest first. */
export const BackupList = Type.Object({ backups: Type.Array(BackupView), more: Type.Boolean() }, strict)
export type BackupList = Static<typeof BackupList>

export const BackupQuery = Type.Object(
  {
    vm: Type.Optional(BackupSource),
    host: Type.Optional(HostId),
    target: Type.Optional(RepositoryName),
    /** Also those that were removed. */
    removed: Type.Optional(Type.Boolean()),
    limit: Limit
  },
  strict
)
export type BackupQuery = Static<typeof BackupQuery>

/** `host`: who looks, instead of the host that made the backup. */
export const VerifyBackupRequest = Type.Object(
  { boot: Type.Optional(Type.Boolean()), host: Type.Optional(HostId) },
  strict
)
export type VerifyBackupRequest = Static<typeof VerifyBackupRequest>

export const PruneBackupsRequest = Type.Object(
  {
    source: BackupSource,
    target: Type.Optional(RepositoryName),
    keep: BackupPruneParams.properties.keep,
    dryRun: BackupPruneParams.properties.dryRun,
    host: Type.Optional(HostId)
  },
  strict
)
export type PruneBackupsRequest = Static<typeof PruneBackupsRequest>

const { disk, format, path } = BackupExportParams.properties
/** `path` is a file on the host. */
export const ExportBackupRequest = Type.Object({ disk, format, path, host: Type.Optional(HostId) }, strict)
export type ExportBackupRequest = Static<typeof ExportBackupRequest>

/** Body of `POST /v1/hosts/{id}/backups`: what lies in a repository, as the host reads it. */
export const ListBackupsRequest = Type.Object({ target: RepositoryName, source: Type.Optional(Uuid) }, strict)
export type ListBackupsRequest = Static<typeof ListBackupsRequest>

const backupRunFields = {
  operation: CommandId,
  target: RepositoryName,
  origin: Type.Enum([...backupOrigins]),
  startedAt: Timestamp,
  finishedAt: Timestamp,
  nextAt: Type.Optional(Timestamp),
  snapshot: Type.Optional(Uuid),
  error: Type.Optional(ErrorReportSchema)
}

/** The schedule as last set through this scheduler, and how the last run went, whoever asked for it. */
export const BackupScheduleView = Type.Object(
  {
    vm: VmName,
    schedule: Type.Union([BackupSchedule, Type.Null()]),
    lastRun: Type.Optional(Type.Object(backupRunFields, strict))
  },
  strict
)
export type BackupScheduleView = Static<typeof BackupScheduleView>

/** One run of vm.backup to its end, by command or by schedule: a backup, or the error that it failed with. */
export const BackupRunView = Type.Object({ vm: VmName, uuid: Uuid, host: HostId, ...backupRunFields }, strict)
export type BackupRunView = Static<typeof BackupRunView>

/** Those that ended last first. */
export const BackupRunList = Type.Object({ runs: Type.Array(BackupRunView), more: Type.Boolean() }, strict)
export type BackupRunList = Static<typeof BackupRunList>

export const BackupRunQuery = Type.Object(
  {
    vm: Type.Optional(BackupSource),
    host: Type.Optional(HostId),
    target: Type.Optional(RepositoryName),
    /** Only those that failed. */
    failed: Type.Optional(Type.Boolean()),
    limit: Limit
  },
  strict
)
export type BackupRunQuery = Static<typeof BackupRunQuery>

// Keys of disks

export const keyPlaces = ['host', 'scheduler'] as const
/** A disk's key as its host told of it. No part of it opens anything without a recovery key or the host's own. */
export const DiskKeyView = Type.Object(
  {
    id: DiskKeyId,
    vm: VmName,
    uuid: Uuid,
    host: HostId,
    volume: ShortText,
    createdAt: Timestamp,
    storedAt: Timestamp,
    /** `scheduler`: the host keeps none of it, and asks for it at each start. */
    place: Type.Enum([...keyPlaces]),
    /** Thumbprints of the recovery keys that open it. */
    recipients: Type.Array(ShortText),
    /** Wrapped for them; absent where there are none, and once the key is destroyed. */
    recovery: Type.Optional(GeneralJwe),
    /** When the scheduler last gave it out for a start. */
    grantedAt: Type.Optional(Timestamp),
    /** When it was destroyed. */
    removedAt: Type.Optional(Timestamp)
  },
  strict
)
export type DiskKeyView = Static<typeof DiskKeyView>

/** Of one VM. `withheldAt`: since then none of them is given out. */
export const VmDiskKeys = Type.Object(
  {
    vm: VmName,
    uuid: Uuid,
    withheldAt: Type.Optional(Timestamp),
    keys: Type.Array(DiskKeyView),
    more: Type.Boolean()
  },
  strict
)
export type VmDiskKeys = Static<typeof VmDiskKeys>

export const DiskKeyList = Type.Object({ keys: Type.Array(DiskKeyView), more: Type.Boolean() }, strict)
export type DiskKeyList = Static<typeof DiskKeyList>

export const VmDiskKeysQuery = Type.Object(
  {
    /** Also those that were destroyed. */
    removed: Type.Optional(Type.Boolean()),
    limit: Limit
  },
  strict
)
export type VmDiskKeysQuery = Static<typeof VmDiskKeysQuery>

export const DiskKeyQuery = Type.Object(
  { ...VmDiskKeysQuery.properties, host: Type.Optional(HostId) },
  strict
)
export type DiskKeyQuery = Static<typeof DiskKeyQuery>

/** Body of `POST /v1/vms/{name}/adopt-keys`: each wrapped for the key of the VM's host (`secretsKey` of its facts). */
export const AdoptKeysRequest = Type.Object({ keys: AdoptedKeys }, strict)
export type AdoptKeysRequest = Static<typeof AdoptKeysRequest>

// Metrics and events

/** `stepMs`: of each span of so long the newest sample alone, for a picture of a long time. */
export const MetricsQuery = Type.Object(
  {
    sinceMs: Type.Optional(Timestamp),
    stepMs: Type.Optional(Type.Integer({ minimum: 1, maximum: 86_400_000 })),
    limit: Limit
  },
  strict
)
export type MetricsQuery = Static<typeof MetricsQuery>

/** Oldest first. */
export const HostMetrics = Type.Object(
  { host: HostId, points: Type.Array(Type.Object({ at: Timestamp, sample: HostSample }, strict)) },
  strict
)
export type HostMetrics = Static<typeof HostMetrics>

/** Oldest first. */
export const VmMetrics = Type.Object(
  { vm: VmName, points: Type.Array(Type.Object({ at: Timestamp, sample: VmSample }, strict)) },
  strict
)
export type VmMetrics = Static<typeof VmMetrics>

/** Which VMs are told of, as in the list of VMs; `of`: hosts alone, or VMs alone. */
export const LatestMetricsQuery = Type.Object(
  {
    of: Type.Optional(Type.Enum(['hosts', 'vms'])),
    ...VmQuery.properties,
    limit: Type.Optional(Type.Integer({ minimum: 1, maximum: listItemsMax, default: listItemsMax }))
  },
  strict
)
export type LatestMetricsQuery = Static<typeof LatestMetricsQuery>

/** The newest figures of everything. `at` and `sample` are absent until the first sample has come. */
export const LatestMetrics = Type.Object(
  {
    now: Timestamp,
    hosts: Type.Array(
      Type.Object({ host: HostView, at: Type.Optional(Timestamp), sample: Type.Optional(HostSample) }, strict)
    ),
    vms: Type.Array(
      Type.Object({ vm: VmView, at: Type.Optional(Timestamp), sample: Type.Optional(VmSample) }, strict)
    ),
    /** There are VMs beyond the last one. */
    more: Type.Optional(Type.Boolean())
  },
  strict
)
export type LatestMetrics = Static<typeof LatestMetrics>

export const EventQuery = Type.Object(
  {
    /** Sequence of the last event seen; 0 for all that are kept. */
    after: Type.Optional(Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER, default: 0 })),
    vm: Type.Optional(VmName),
    /** Begins with the newest ones instead of the oldest; `more` then says that there were earlier ones. */
    newest: Type.Optional(Type.Boolean()),
    limit: Limit
  },
  strict
)
export type EventQuery = Static<typeof EventQuery>

export const EventView = Type.Object(
  {
    sequence: Type.Integer({ minimum: 1 }),
    at: Timestamp,
    receivedAt: Timestamp,
    host: HostId,
    vm: VmName,
    uuid: Uuid,
    kind: Type.Enum([...vmEventKinds]),
    state: VmState,
    detail: ShortText
  },
  strict
)
export type EventView = Static<typeof EventView>

/** Oldest first. `last` is the `after` of the next question. */
export const EventList = Type.Object(
  { events: Type.Array(EventView), last: Type.Integer({ minimum: 0 }), more: Type.Boolean() },
  strict
)
export type EventList = Static<typeof EventList>

/** `vms`: whether each VM has its metrics too. Without them the fleet and its hosts are left. */
export const MetricsTextQuery = Type.Object({ vms: Type.Optional(Type.Boolean({ default: true })) }, strict)
export type MetricsTextQuery = Static<typeof MetricsTextQuery>

// API keys

/** How long a key may be made to last, in seconds: a minute to ten years. */
const KeySeconds = Type.Integer({ minimum: 60, maximum: 10 * 365 * 86_400 })

export const CreateKeyRequest = Type.Object(
  {
    tier: Type.Enum([...apiTiers]),
    note: Type.Optional(Note),
    /** Whose it is. */
    owner: Type.Optional(Note),
    /** How long it lasts; without it until it is revoked. */
    ttlSeconds: Type.Optional(KeySeconds),
    /** Used by a program: it opens no session and is asked for no second factor. */
    machine: Type.Optional(Type.Boolean({ default: false })),
    /** Good for nothing but to set up a second factor, until that is done. */
    secondFactor: Type.Optional(Type.Boolean({ default: false }))
  },
  strict
)
export type CreateKeyRequest = Static<typeof CreateKeyRequest>

/** Body of `POST /v1/keys/{id}/rotate`: how long the old key stays good beside the new one, and how long the new one lasts. */
export const RotateKeyRequest = Type.Object(
  {
    overlapSeconds: Type.Optional(Type.Integer({ minimum: 0, maximum: 90 * 86_400, default: 86_400 })),
    /** Without it as long as the old one was made to last. */
    ttlSeconds: Type.Optional(KeySeconds)
  },
  strict
)
export type RotateKeyRequest = Static<typeof RotateKeyRequest>

/** Header of answers to a key that ends soon: when, as ISO 8601 writes it. */
export const keyExpiresHeader = 'hostlet-key-expires'

/** `none`: the key alone is enough. `wanted`: one has to be set up first. `on`: the key alone only opens sessions. */
export const secondFactorStates = ['none', 'wanted', 'on'] as const

export const KeyView = Type.Object(
  {
    id: Uuid,
    /** What to know it by: `hlk_…` and its last four characters. Absent for keys that older releases made. */
    masked: Type.Optional(ShortText),
    tier: Type.Enum([...apiTiers]),
    note: Note,
    owner: Type.Optional(Note),
    machine: Type.Optional(Type.Boolean()),
    secondFactor: Type.Optional(Type.Enum([...secondFactorStates])),
    createdAt: Timestamp,
    expiresAt: Type.Optional(Timestamp),
    lastUsedAt: Type.Optional(Timestamp),
    /** Address from which it was last used. */
    lastUsedFrom: Type.Optional(ShortText)
  },
  strict
)
export type KeyView = Static<typeof KeyView>

export const KeyList = Type.Object({ keys: Type.Array(KeyView), more: Type.Boolean() }, strict)
export type KeyList = Static<typeof KeyList>

/** `text` is the key itself, shown this once. */
export const CreatedKey = Type.Object({ key: KeyView, text: ApiKeyText }, strict)
export type CreatedKey = Static<typeof CreatedKey>

// Sessions

/** The cookie that holds a browser's session. */
export const sessionCookie = '__Host-hostlet-session'
/** What a browser has to send with all but GET, with the value `1`: no form and no foreign page can. */
export const requestHeader = 'x-hostlet-request'
/** What a page sends, with the value `1`, with a GET that nobody wished for just now: it does not keep the session from ending. */
export const backgroundHeader = 'x-hostlet-background'

export const SessionText = Type.String({ pattern: '^hls_[A-Za-z0-9_-]{43}$' })

/** Six digits of the second factor, or a recovery code. */
const FactorCode = Type.String({ minLength: 1, maxLength: 40 })

/** Body of `POST /v1/session`. */
export const OpenSessionRequest = Type.Object(
  {
    key: ApiKeyText,
    code: Type.Optional(FactorCode),
    /** Lasts longer, and may be idle. */
    remember: Type.Optional(Type.Boolean({ default: false })),
    /** The answer has the token, and sets no cookie: for programs that are no browser. */
    token: Type.Optional(Type.Boolean({ default: false }))
  },
  strict
)
export type OpenSessionRequest = Static<typeof OpenSessionRequest>

const sessionFields = {
  /** Of the session; absent where the key itself was shown. */
  id: Type.Optional(Uuid),
  /** Id of the key. */
  key: Uuid,
  tier: Type.Enum([...apiTiers]),
  note: Note,
  owner: Type.Optional(Note),
  /** 2 where a second factor was shown besides the key. */
  factors: Type.Enum([1, 2]),
  secondFactor: Type.Enum([...secondFactorStates]),
  /** Calls of this tier and above are refused, since they need a second factor. */
  refusedFrom: Type.Optional(Type.Enum([...apiTiers])),
  /** From this tier on one may ask for consoles of VMs. */
  consoleTier: Type.Optional(Type.Enum([...apiTiers])),
  createdAt: Type.Optional(Timestamp),
  /** When it ends at the latest. */
  expiresAt: Type.Optional(Timestamp),
  /** It ends when nothing was asked for so long. */
  idleMs: Type.Optional(Type.Integer({ minimum: 1 })),
  keyExpiresAt: Type.Optional(Timestamp)
}

/** Who asks, as the scheduler sees it. */
export const SessionView = Type.Object(sessionFields, strict)
export type SessionView = Static<typeof SessionView>

/** `token` only where it was asked for, this once. */
export const OpenedSession = Type.Object(
  {
    ...sessionFields,
    token: Type.Optional(SessionText),
    /** After one was used. */
    recoveryCodesLeft: Type.Optional(Type.Integer({ minimum: 0 }))
  },
  strict
)
export type OpenedSession = Static<typeof OpenedSession>

// Second factor

/** Body of `POST /v1/second-factor`; `key` where a session asks: the secret is sealed under it. */
export const BeginFactorRequest = Type.Object({ key: Type.Optional(ApiKeyText) }, strict)
export type BeginFactorRequest = Static<typeof BeginFactorRequest>

/** The secret as base32, and as the URI that apps read; told this once. */
export const BegunFactor = Type.Object(
  { secret: Type.String({ pattern: '^[A-Z2-7]+$' }), uri: Type.String({ pattern: '^otpauth://totp/' }) },
  strict
)
export type BegunFactor = Static<typeof BegunFactor>

export const ConfirmFactorRequest = Type.Object({ key: Type.Optional(ApiKeyText), code: FactorCode }, strict)
export type ConfirmFactorRequest = Static<typeof ConfirmFactorRequest>

/** Each opens one session in place of a code; told this once. */
export const RecoveryCodes = Type.Object({ recoveryCodes: Type.Array(ShortText) }, strict)
export type RecoveryCodes = Static<typeof RecoveryCodes>

// Renewal

/** Body of `POST /v1/renew`, over the certificate that is to be renewed; the answer is an EnrollmentReply. */
export const RenewalRequest = Type.Object(
  {
    certificateRequest: Type.String({ maxLength: 8_192 }),
    /** Of the trust statement that the host goes by: the answer has those after it. */
    trustSerial: Type.Optional(TrustSerial)
  },
  strict
)
export type RenewalRequest = Static<typeof RenewalRequest>

// Audit

export const auditFailures = ['refused', 'other'] as const

export const AuditQuery = Type.Object(
  {
    /** Sequence of the last entry seen; 0 for all that are kept. */
    after: Type.Optional(Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER, default: 0 })),
    /** `api` for calls; `console` stands for all below it, such as `console.closed`. */
    kind: Type.Optional(ShortText),
    /** Id of the API key that asked. */
    key: Type.Optional(Uuid),
    /** The host, VM or key that the call was about. */
    object: Type.Optional(ShortText),
    operation: Type.Optional(CommandId),
    /** Only those that failed, or only those that did not. */
    refused: Type.Optional(Type.Boolean()),
    /** Of those that failed only these: for want of a right (401, 403, 429), or for any other reason. */
    failure: Type.Optional(Type.Enum([...auditFailures])),
    sinceMs: Type.Optional(Timestamp),
    /** Only those before. */
    untilMs: Type.Optional(Timestamp),
    /** Begins with the newest ones instead of the oldest; `more` then says that there were earlier ones. */
    newest: Type.Optional(Type.Boolean()),
    /** Without it as the Accept header says. */
    format: Type.Optional(Type.Enum(['json', 'csv'])),
    limit: Limit
  },
  strict
)
export type AuditQuery = Static<typeof AuditQuery>

/** One line of the chain as it was written: the rest of its fields depend on its kind. */
export const AuditEntry = Type.Object(
  {
    seq: Type.Integer({ minimum: 1 }),
    at: Timestamp,
    kind: ShortText,
    prev: Type.String(),
    hash: Type.String()
  },
  { additionalProperties: true }
)
export type AuditEntry = Static<typeof AuditEntry>

/** Oldest first. `head` is the newest entry there is, `anchor` the one that the first that is kept goes on from. */
export const AuditList = Type.Object(
  {
    entries: Type.Array(AuditEntry),
    last: Type.Integer({ minimum: 0 }),
    more: Type.Boolean(),
    head: TrailLink,
    anchor: TrailLink
  },
  strict
)
export type AuditList = Static<typeof AuditList>

/** Newest first. `fault`: why the trail is not believed, since when. */
export const HostAudit = Type.Object(
  {
    host: HostId,
    heads: Type.Array(
      Type.Object({ seq: Type.Integer({ minimum: 1 }), hash: Sha256, at: Timestamp }, strict)
    ),
    fault: Type.Optional(Type.Object({ at: Timestamp, message: Sentence }, strict))
  },
  strict
)
export type HostAudit = Static<typeof HostAudit>

// Rotation of the keys of the fleet

export const rotationSubjects = ['ca', 'command-key'] as const
export const rotationPhases = ['idle', 'prepared', 'activated'] as const
export const rotationActions = ['start', 'activate', 'finish', 'return', 'abort'] as const

/** A key or CA by its thumbprint, as `kid` or `sha256:` of the public key. `expiresAt`: of a CA. */
const RotatingItem = Type.Object({ id: ShortText, expiresAt: Type.Optional(Timestamp) }, strict)

/** A host that keeps the next step from being taken, and why. */
const LaggingHost = Type.Object(
  {
    host: HostId,
    state: Type.Enum(['new', 'connected', 'away']),
    serial: TrustSerial,
    reason: Sentence
  },
  strict
)

/** `prepared`: hosts take the new one, the old one signs. `activated`: the new one signs, the old one is still believed. */
export const RotationView = Type.Object(
  {
    subject: Type.Enum([...rotationSubjects]),
    phase: Type.Enum([...rotationPhases]),
    active: RotatingItem,
    next: Type.Optional(RotatingItem),
    previous: Type.Optional(RotatingItem),
    /** Of the statement that told hosts of this phase. */
    serial: TrustSerial,
    changedAt: Timestamp,
    changedBy: ShortText,
    /** What may be done now. */
    possible: Type.Array(Type.Enum([...rotationActions])),
    /** Hosts that count: enrolled, not revoked, with a certificate that has not expired. */
    hosts: Type.Integer({ minimum: 0 }),
    /** Those that the next step waits for. */
    lagging: Type.Array(LaggingHost),
    more: Type.Boolean()
  },
  strict
)
export type RotationView = Static<typeof RotationView>

export const TrustHistoryEntry = Type.Object(
  {
    serial: TrustSerial,
    at: Timestamp,
    /** Id of the API key that asked for it; `scheduler` for what it did by itself. */
    by: ShortText,
    what: ShortText,
    forced: Type.Boolean()
  },
  strict
)

export type TrustHistoryEntry = Static<typeof TrustHistoryEntry>

/** `caHash`: what new join tokens pin. `caBundle`: PEM of every CA that is believed now, the one that signs first. */
export const TrustView = Type.Object(
  {
    serial: TrustSerial,
    caHash: CaHash,
    caBundle: Type.String(),
    /** PEM of CAs that were dropped: they vouch for what hosts signed in their time. */
    retired: Type.Array(Type.String()),
    rotations: Type.Array(RotationView),
    /** The newest first. */
    history: Type.Array(TrustHistoryEntry)
  },
  strict
)
export type TrustView = Static<typeof TrustView>

/** `force`: also while hosts lag behind. `renewWithinSeconds`: for the CA, over which time hosts renew their certificates. */
export const RotationRequest = Type.Object(
  {
    force: Type.Optional(Type.Boolean()),
    renewWithinSeconds: Type.Optional(Type.Integer({ minimum: 0, maximum: 604_800 }))
  },
  strict
)
export type RotationRequest = Static<typeof RotationRequest>

/** `warnings`: what the step leaves to be done, or costs. */
export const RotationReply = Type.Object({ rotation: RotationView, warnings: Type.Array(Sentence) }, strict)
export type RotationReply = Static<typeof RotationReply>
