// What the agent answers on its local socket, one schema each: the state of this host, for whoever is on it.

import { type Static, Type } from '../lib/schema.ts'
import { TransferProgress } from './backup.ts'
import { ErrorReportSchema } from './command.ts'
import { Condition } from './messages.ts'
import { HostSample, VmSample } from './metrics.ts'
import { CommandId, HostId, Sentence, ShortText, strict, Timestamp, VerbName, VmName } from './names.ts'
import { ForeignDomain, VmSummary } from './vm.ts'
import { OperationWait } from './waiting.ts'

/** Name of the socket in the agent's runtime directory. */
export const localSocketName = 'agent.sock'
/** Longest answer that is read. */
export const localAnswerBytesMax = 64 * 1024 * 1024
/** Operations of a VM that have ended and are told. */
export const historyMax = 8

export const localOperationStates = ['waiting', 'running', 'undoing', 'done', 'failed'] as const

/** An operation as the agent's journal has it, with what is known of it now while it has not ended. */
export const LocalOperation = Type.Object(
  {
    id: CommandId,
    verb: VerbName,
    vm: Type.Optional(VmName),
    /** `schedule`: the agent began it by itself. */
    origin: Type.Enum(['command', 'schedule']),
    state: Type.Enum([...localOperationStates]),
    acceptedAt: Timestamp,
    startedAt: Type.Optional(Timestamp),
    finishedAt: Type.Optional(Timestamp),
    /** How often an agent has begun it: more than once after a crash or a restart. */
    attempts: Type.Integer({ minimum: 0 }),
    cancelled: Type.Optional(Type.Literal(true)),
    step: Type.Optional(ShortText),
    stepIndex: Type.Optional(Type.Integer({ minimum: 0 })),
    steps: Type.Optional(Type.Integer({ minimum: 1 })),
    ratio: Type.Optional(Type.Number()),
    note: Type.Optional(Type.String()),
    transfer: Type.Optional(TransferProgress),
    wait: Type.Optional(OperationWait),
    /** The step was interrupted, and is tried again. */
    trouble: Type.Optional(
      Type.Object({ at: Timestamp, error: ErrorReportSchema, tries: Type.Integer({ minimum: 1 }) }, strict)
    ),
    /** Why it failed, or is being undone. */
    error: Type.Optional(ErrorReportSchema)
  },
  strict
)
export type LocalOperation = Static<typeof LocalOperation>

/** How the connection to the scheduler stands. */
export const LocalScheduler = Type.Object(
  {
    state: Type.Enum(['connected', 'connecting', 'away']),
    url: Type.String(),
    /** Connected, or away, since then. */
    since: Timestamp,
    reason: Type.Optional(Sentence),
    /** When it is tried again. */
    retryAt: Type.Optional(Timestamp)
  },
  strict
)
export type LocalScheduler = Static<typeof LocalScheduler>

export const LocalBackup = Type.Object(
  {
    vm: VmName,
    target: ShortText,
    overdue: Type.Enum(['no', 'warning', 'critical']),
    failures: Type.Integer({ minimum: 0 }),
    error: Type.Optional(ErrorReportSchema),
    nextAt: Type.Optional(Timestamp)
  },
  strict
)
export type LocalBackup = Static<typeof LocalBackup>

/** Answer of `/v1/status`. */
export const LocalStatus = Type.Object(
  {
    host: HostId,
    version: ShortText,
    now: Timestamp,
    startedAt: Timestamp,
    scheduler: LocalScheduler,
    libvirt: Type.Object(
      {
        state: Type.Enum(['connected', 'away']),
        /** Since when it is away. */
        since: Type.Optional(Timestamp),
        reason: Type.Optional(Sentence)
      },
      strict
    ),
    certificate: Type.Object(
      { expiresAt: Type.Optional(Timestamp), renewsAt: Type.Optional(Timestamp) },
      strict
    ),
    /** Since when it takes no new work. */
    drainingSince: Type.Optional(Timestamp),
    conditions: Type.Array(Condition),
    /** As they were seen at `seenAt`; nothing was seen yet without it. */
    seenAt: Type.Optional(Timestamp),
    vms: Type.Array(VmSummary),
    foreign: Type.Array(ForeignDomain),
    /** VMs that should run since the boot of the host, and could not be started. */
    notStarted: Type.Array(Type.Object({ vm: VmName, reason: Sentence }, strict)),
    /** Those that have not ended. */
    operations: Type.Array(LocalOperation),
    backups: Type.Array(LocalBackup),
    sample: Type.Optional(Type.Object({ at: Timestamp, host: HostSample, vms: Type.Array(VmSample) }, strict))
  },
  strict
)
export type LocalStatus = Static<typeof LocalStatus>

/** Answer of `/v1/operations`, with `id` or `vm`: the newest first. */
export const LocalOperations = Type.Object({ operations: Type.Array(LocalOperation) }, strict)
export type LocalOperations = Static<typeof LocalOperations>
