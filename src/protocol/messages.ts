// Every message of the subprotocol hostlet.v1, one schema each; the types follow from the schemas.

import { type Static, Type } from '../lib/schema.ts'
import { ApprovalText, approvalsMax } from './approval.ts'
import { BackupReport, TransferProgress } from './backup.ts'
import { CommandResult, commandBytesMax, ErrorReportSchema } from './command.ts'
import {
  DiskKeys,
  DiskKeysAcknowledgement,
  DiskKeysGone,
  DiskKeysGoneAcknowledgement,
  DiskKeysGrant,
  DiskKeysRequest
} from './keys.ts'
import { ErasureNotice } from './lifecycle.ts'
import { MetricsSample } from './metrics.ts'
import {
  CommandId,
  HostId,
  Milliseconds,
  Sentence,
  ShortText,
  strict,
  Timestamp,
  Uuid,
  VerbName,
  VmName
} from './names.ts'
import { AuditHead, AuditQuestion, AuditReceipt, AuditRefusal } from './trail.ts'
import { Trust, TrustAcknowledgement, TrustSerial } from './trust.ts'
import { ForeignDomain, HostFacts, VmState, VmSummary } from './vm.ts'
import { WaitingOperation, waitsMax } from './waiting.ts'

export const subprotocol = 'hostlet.v1'
export const protocolVersion = 1
/** Path of the agent socket on the scheduler. */
export const agentSocketPath = '/v1/agent'
/** Longest message that either side accepts; a longer one closes the socket with 1009. */
export const messageBytesMax = 8 * 1024 * 1024

/** Codes of the close frame (RFC 6455 section 7.4 leaves 4000 to 4999 to applications). */
export const closeCodes = {
  normal: 1000,
  /** The scheduler stops. */
  stopping: 1001,
  badMessages: 4000,
  badHello: 4001,
  auth: 4003,
  /** A newer connection of the same host took over. */
  replaced: 4008
} as const
export type CloseReason = keyof typeof closeCodes

export const conditionSeverities = ['info', 'warning', 'critical'] as const
/** Something about the host that an operator should know, since when, and what to do. */
export const Condition = Type.Object(
  { id: ShortText, severity: Type.Enum([...conditionSeverities]), message: Sentence, since: Timestamp },
  strict
)
export type Condition = Static<typeof Condition>

export const Hello = Type.Object(
  {
    type: Type.Literal('hello'),
    protocol: Type.Literal(protocolVersion),
    agentVersion: ShortText,
    hostId: HostId,
    /** New at each start of the agent: tells a reconnect from a restart. */
    instance: Uuid,
    sentAt: Timestamp,
    verbs: Type.Array(VerbName, { maxItems: 256 }),
    /** Of the trust statement that the host goes by. Absent: it knows of none, and is sent none. */
    trustSerial: Type.Optional(TrustSerial)
  },
  strict
)

export const Heartbeat = Type.Object(
  {
    type: Type.Literal('heartbeat'),
    sentAt: Timestamp,
    operationsRunning: Type.Integer({ minimum: 0 }),
    operationsWaiting: Type.Integer({ minimum: 0 }),
    hypervisor: Type.Enum(['connected', 'away']),
    /** Since when the host takes no new work; absent while it does. */
    drainingSince: Type.Optional(Timestamp),
    /** What operations wait for that were taken and do not get on; absent where none does. */
    waits: Type.Optional(Type.Array(WaitingOperation, { minItems: 1, maxItems: waitsMax })),
    conditions: Type.Array(Condition, { maxItems: 64 })
  },
  strict
)

/** Everything on the host, ours and foreign: sent on connect and whenever the agent has looked anew. */
export const Inventory = Type.Object(
  {
    type: Type.Literal('inventory'),
    at: Timestamp,
    facts: HostFacts,
    vms: Type.Array(VmSummary, { maxItems: 16_384 }),
    foreign: Type.Array(ForeignDomain, { maxItems: 16_384 })
  },
  strict
)

export const vmEventKinds = [
  'defined',
  'undefined',
  'started',
  'suspended',
  'resumed',
  'stopped',
  'shutdown',
  'crashed',
  'rebooted',
  'ready',
  'io-error',
  'changed',
  'drifted',
  'repaired'
] as const
export const VmEvent = Type.Object(
  {
    type: Type.Literal('event'),
    at: Timestamp,
    vm: VmName,
    uuid: Uuid,
    kind: Type.Enum([...vmEventKinds]),
    state: VmState,
    detail: ShortText
  },
  strict
)
export type VmEvent = Static<typeof VmEvent>

export const Metrics = Type.Object(
  { type: Type.Literal('metrics'), samples: Type.Array(MetricsSample, { minItems: 1, maxItems: 64 }) },
  strict
)

/** The command is verified and durable on the host; `repeated` when the host had it already. */
export const Acknowledgement = Type.Object(
  { type: Type.Literal('ack'), command: CommandId, repeated: Type.Boolean() },
  strict
)

/** The command was not accepted; nothing happened and nothing is recorded. */
export const Refusal = Type.Object(
  { type: Type.Literal('refusal'), command: Type.Optional(CommandId), error: ErrorReportSchema },
  strict
)

export const Progress = Type.Object(
  {
    type: Type.Literal('progress'),
    command: CommandId,
    at: Timestamp,
    step: ShortText,
    stepIndex: Type.Integer({ minimum: 0 }),
    steps: Type.Integer({ minimum: 1 }),
    /** 0 to 1 within the step, where it is known. */
    ratio: Type.Optional(Type.Number({ minimum: 0, maximum: 1 })),
    note: Type.Optional(ShortText),
    transfer: Type.Optional(TransferProgress)
  },
  strict
)

export const Result = Type.Object({ type: Type.Literal('result'), result: CommandResult }, strict)

/** Runs of vm.backup that the scheduler has not acknowledged, the oldest first. */
export const Backups = Type.Object(
  { type: Type.Literal('backups'), reports: Type.Array(BackupReport, { minItems: 1, maxItems: 64 }) },
  strict
)

/** Certificates of what the host erased without a command, which the scheduler has not acknowledged, the oldest first. */
export const Erasures = Type.Object(
  { type: Type.Literal('erasures'), certificates: Type.Array(ErasureNotice, { minItems: 1, maxItems: 16 }) },
  strict
)

/** The answer to a message that could not be understood. */
export const Problem = Type.Object({ type: Type.Literal('problem'), error: ErrorReportSchema }, strict)

export const Welcome = Type.Object(
  {
    type: Type.Literal('welcome'),
    protocol: Type.Literal(protocolVersion),
    schedulerVersion: ShortText,
    sentAt: Timestamp,
    heartbeatIntervalMs: Milliseconds,
    metricsIntervalMs: Milliseconds
  },
  strict
)

/** Changes the intervals that welcome gave. */
export const Settings = Type.Object(
  { type: Type.Literal('settings'), heartbeatIntervalMs: Milliseconds, metricsIntervalMs: Milliseconds },
  strict
)

/** Answers a heartbeat now and then: with the time of its answer the agent knows how far its clock is off. */
export const ClockReading = Type.Object(
  { type: Type.Literal('clock'), heartbeatSentAt: Timestamp, sentAt: Timestamp },
  strict
)

export const Command = Type.Object(
  {
    type: Type.Literal('command'),
    jws: Type.String({ maxLength: commandBytesMax }),
    /** Signatures of others for this command, as compact JWS: the host's policy may want one before it acts. */
    approvals: Type.Optional(Type.Array(ApprovalText, { minItems: 1, maxItems: approvalsMax }))
  },
  strict
)

/** The scheduler has stored the result: the agent may forget it. */
export const ResultAcknowledgement = Type.Object(
  { type: Type.Literal('result-ack'), command: CommandId },
  strict
)

/** The scheduler has stored the reports of these operations: the agent need not tell of them again. */
export const BackupsAcknowledgement = Type.Object(
  { type: Type.Literal('backups-ack'), operations: Type.Array(CommandId, { minItems: 1, maxItems: 64 }) },
  strict
)

/** The scheduler has stored these certificates: the agent need not tell of them again. */
export const ErasuresAcknowledgement = Type.Object(
  { type: Type.Literal('erasures-ack'), certificates: Type.Array(Uuid, { minItems: 1, maxItems: 16 }) },
  strict
)

export const agentMessages = [
  Hello,
  Heartbeat,
  Inventory,
  VmEvent,
  Metrics,
  Acknowledgement,
  Refusal,
  Progress,
  Result,
  Backups,
  Erasures,
  DiskKeys,
  DiskKeysGone,
  DiskKeysRequest,
  AuditHead,
  TrustAcknowledgement,
  Problem
] as const
export const schedulerMessages = [
  Welcome,
  Settings,
  ClockReading,
  Command,
  ResultAcknowledgement,
  BackupsAcknowledgement,
  ErasuresAcknowledgement,
  DiskKeysAcknowledgement,
  DiskKeysGoneAcknowledgement,
  DiskKeysGrant,
  AuditQuestion,
  AuditReceipt,
  AuditRefusal,
  Trust,
  Problem
] as const

export type AgentMessage = Static<(typeof agentMessages)[number]>
export type SchedulerMessage = Static<(typeof schedulerMessages)[number]>
export type AgentMessageOf<Name extends AgentMessage['type']> = Extract<AgentMessage, { type: Name }>
export type SchedulerMessageOf<Name extends SchedulerMessage['type']> = Extract<
  SchedulerMessage,
  { type: Name }
>
