// What the scheduler remembers: one interface, so that another engine can take SQLite's place. Nothing outside may assume that this process is the only one.

import type { ErrorReport } from '../../errors.ts'
import type { OperationState, TokenView, VmQuery } from '../../protocol/api.ts'
import type { TransferProgress } from '../../protocol/backup.ts'
import type { CommandResult } from '../../protocol/command.ts'
import type { AgentMessageOf, Condition } from '../../protocol/messages.ts'
import type { Labels, PlacementView, PlacementWish } from '../../protocol/placement.ts'
import type { VmResizeResult } from '../../protocol/resize.ts'
import type {
  ForeignDomain,
  HostFacts,
  ImageReference,
  VmSpecification,
  VmSummary
} from '../../protocol/vm.ts'
import type { WaitingOperation } from '../../protocol/waiting.ts'
import type { CertificateMark, KnownCertificates } from '../identity/standing.ts'
import type { ApprovalStore } from './approval-store.ts'
import type { AuditStore, TrailFaultRecord, TrailStore } from './audit-store.ts'
import type { BackupStore } from './backup-store.ts'
import type { DiskKeyStore } from './disk-key-store.ts'
import type { EraseStore } from './erase-store.ts'
import type { CommandEnd, FleetStore } from './fleet-store.ts'
import type { KeyStore } from './key-store.ts'
import type { EventStore, MetricsStore } from './observation-store.ts'
import type { PlacementStore } from './placement-store.ts'
import type { SecondFactorStore } from './second-factor-store.ts'
import type { SessionStore } from './session-store.ts'
import type { TrustStore } from './trust-store.ts'

export type { KeyRecord, KeyStore } from './key-store.ts'
export type { EventFilter, EventStore, MetricsStore, Point } from './observation-store.ts'

/** A list that was cut at its bound says so. */
export interface Page<Item> {
  readonly items: readonly Item[]
  readonly more: boolean
}

export interface NewToken {
  readonly id: string
  readonly hash: Buffer
  readonly note: string
  readonly createdAt: number
  readonly expiresAt: number
}

export interface NewHost {
  readonly id: string
  readonly hostname: string
  readonly enrolledAt: number
  readonly certificateExpiresAt: number
  /** Absent where nobody wants to know later whether it is the last one. */
  readonly certificate?: CertificateMark
}

export interface TokenStore {
  add(token: NewToken): Promise<void>
  list(limit: number, now: number): Promise<Page<TokenView>>
  /** False when there is no such token. */
  remove(id: string): Promise<boolean>
  /**
   * Throws E_AUTH with the reason when the token cannot be used now. Uses nothing up. Resolves with the host that has used
   * it where that was so: within the token's time it may ask again, if its key proves who it is.
   */
  check(hash: Buffer, now: number): Promise<{ readonly usedBy: string | undefined }>
  /** Uses the token up and records the host, both or neither. Throws E_AUTH as check does; E_CONFLICT when the id is taken. */
  enroll(hash: Buffer, host: NewHost): Promise<void>
}

/** What the host's agent last said of itself. */
export interface HostReport {
  readonly state: 'connected' | 'away'
  readonly reason: string
  /** Which connection said so: only it may say that the host is away. */
  readonly connection: string
  readonly connectedAt: number
  readonly lastSeenAt: number
  readonly agentVersion: string
  readonly instance: string
  readonly verbs: readonly string[]
  readonly hypervisor: 'connected' | 'away' | 'unknown'
  readonly operationsRunning: number
  readonly operationsWaiting: number
  /** Since when it takes no new work. */
  readonly drainingSince?: number | undefined
  /** What its operations wait for that have not begun, as of its last heartbeat. */
  readonly waits?: readonly WaitingOperation[]
  readonly conditions: readonly Condition[]
  readonly facts: HostFacts | undefined
  readonly foreignCount: number
  /** The host's clock minus ours at its last heartbeat; the way of the message makes it look a little behind. */
  readonly clockSkewMs: number | undefined
}

export interface HostRecord {
  readonly id: string
  readonly hostname: string
  readonly enrolledAt: number
  readonly certificateExpiresAt: number
  readonly revokedAt: number | undefined
  /** Undefined for a host that enrolled before anybody kept note and has not renewed since. */
  readonly certificates: KnownCertificates | undefined
  /** When two machines were seen to use its identity; undefined once that is settled. */
  readonly clonedAt: number | undefined
  readonly vmCount: number
  /** Those that people set. */
  readonly labels?: Labels
  /** Why its audit trail is not believed. */
  readonly trailFault?: TrailFaultRecord | undefined
  readonly report: HostReport | undefined
}

export interface HostStore {
  find(id: string): Promise<HostRecord | undefined>
  list(limit: number): Promise<Page<HostRecord>>
  foreign(id: string): Promise<readonly ForeignDomain[]>
  /** False when there is no such host or it is revoked already. */
  revoke(id: string, at: number): Promise<boolean>
  /** `previousKey` is that of the certificate which asked for the new one. */
  renewed(
    id: string,
    renewal: { certificateExpiresAt: number; issued: CertificateMark; previousKey: string }
  ): Promise<void>
  /** The host uses this certificate: the one before it is good no more. */
  used(id: string, certificate: CertificateMark): Promise<void>
  /** False when it was noticed before. */
  cloned(id: string, at: number): Promise<boolean>
  /** Lets the host connect again after `cloned`. False when there was nothing to settle. */
  settled(id: string): Promise<boolean>
  /** Whether this run of the agent was heard before another one of the same host was: then both live. */
  isReturning(id: string, instance: string): Promise<boolean>
  /** Of every host: what may end its connection. */
  standing(): Promise<ReadonlyMap<string, HostStanding>>
  connected(
    id: string,
    report: Pick<HostReport, 'connection' | 'connectedAt' | 'agentVersion' | 'instance' | 'verbs'>
  ): Promise<void>
  /** No effect when another connection of the host has taken over. */
  away(id: string, connection: string, reason: string): Promise<void>
  heartbeat(
    id: string,
    heartbeat: AgentMessageOf<'heartbeat'>,
    heard: { at: number; instance: string }
  ): Promise<void>
  /** Replaces what is known of the host and of the VMs on it; VMs that nobody knew are taken in. */
  inventory(id: string, inventory: AgentMessageOf<'inventory'>, at: number): Promise<InventoryOutcome>
}

/** Why a host's connection may have to end. */
export interface HostStanding {
  readonly revoked: boolean
  readonly cloned: boolean
  /** The connection that said hello last, to whichever process. */
  readonly connection: string | undefined
}

export interface InventoryOutcome {
  /** VMs of ours that the scheduler had not known. */
  readonly adopted: readonly string[]
  /** VMs whose name or UUID belongs to another one here: listed nowhere, never commanded. */
  readonly conflicting: readonly string[]
}

export interface VmRecord {
  readonly name: string
  readonly uuid: string
  readonly host: string
  readonly wanted: 'running' | 'stopped'
  readonly generation: number
  readonly profile: string
  readonly cpus: number
  readonly memoryBytes: number
  readonly createdAt: number
  /** Absent for a VM that was found on its host. Without user data, which may hold secrets. */
  readonly specification: VmSpecification | undefined
  /** What it wished of its host when it was made. */
  readonly wish?: PlacementWish | undefined
  readonly operation: string | undefined
  readonly hostConnected: boolean
  readonly hostRevoked: boolean
  /** What the host last said; `present` is false when it said that before but no longer. */
  readonly report: (VmSummary & { readonly reportedAt: number; readonly present: boolean }) | undefined
}

export type VmFilter = Omit<VmQuery, 'limit'>

export interface VmStore {
  find(name: string): Promise<VmRecord | undefined>
  /** In the order of names. */
  list(filter: VmFilter, limit: number): Promise<Page<VmRecord>>
  /**
   * Drops the record of a VM whose host is revoked. False when there is no such VM. Throws E_CONFLICT when its host is not
   * revoked: it would report the VM again.
   */
  forget(name: string): Promise<boolean>
}

export interface CommandRecord {
  readonly id: string
  readonly verb: string
  readonly host: string
  readonly vm: string | undefined
  /** Of the VM. */
  readonly uuid: string | undefined
  /** Name of the VM that it is about without changing it. */
  readonly about?: string | undefined
  /** Gone once the operation has ended. */
  readonly jws: string | undefined
  readonly state: OperationState
  readonly step: string | undefined
  readonly stepIndex: number | undefined
  readonly steps: number | undefined
  readonly ratio: number | undefined
  readonly note: string | undefined
  readonly transfer: TransferProgress | undefined
  readonly createdAt: number
  readonly expiresAt: number
  readonly sentAt: number | undefined
  readonly startedAt: number | undefined
  readonly finishedAt: number | undefined
  /** How often its host has refused it for the time being, and what it said last. */
  readonly refusals: number
  readonly refusal: ErrorReport | undefined
  /** Not sent again before. */
  readonly retryAt: number | undefined
  readonly value: Record<string, unknown> | undefined
  readonly error: ErrorReport | undefined
}

/** What a new command means for the VM that it is about. */
export type VmIntent =
  | {
      readonly kind: 'create'
      readonly specification: VmSpecification
      readonly wish?: PlacementWish | undefined
    }
  /** Made of a backup; without a specification where nobody here knows it, until its host tells. */
  | {
      readonly kind: 'restore'
      readonly specification: VmSpecification | undefined
      readonly profile: string
      readonly wanted: 'running' | 'stopped'
      readonly wish?: PlacementWish | undefined
    }
  | { readonly kind: 'want'; readonly wanted: 'running' | 'stopped' }
  | { readonly kind: 'none' }

export interface NewCommand {
  readonly id: string
  readonly verb: string
  readonly host: string
  readonly vm: { readonly name: string; readonly uuid: string; readonly generation: number } | undefined
  readonly about?: string | undefined
  readonly jws: string
  readonly createdAt: number
  readonly expiresAt: number
  readonly intent: VmIntent
  /** Why its VM comes to stand on this host. */
  readonly placement?: PlacementView | undefined
  readonly repeatable: Repeatable | undefined
}

/** An idempotency key: `scope` is who asked, `hash` what for. */
export interface Repeatable {
  readonly scope: string
  readonly key: string
  readonly hash: Buffer
}

/** The connection that looks for commands, and what it knows. */
export interface Courier {
  readonly host: string
  readonly connection: string
  /** The run of the agent at the other end: another one may have lost what an earlier one took. */
  readonly instance: string
  readonly now: number
  /** What was sent before and not answered is sent again. */
  readonly unansweredBefore: number
  /** No more than so many may be unanswered. */
  readonly unansweredMax: number
}

/** What a result tells besides its end. */
export interface Told {
  readonly vm?: VmSummary
  /** Of that VM, where it was given others. */
  readonly sizes?: VmResizeResult['sizes']
  readonly facts?: HostFacts
  /** The image that the VM was made anew of. */
  readonly image?: ImageReference
}

/** What the end of a command means for its VM's record. */
export type VmConsequence = 'none' | 'forget' | 'forget-unless-reported'

export interface CommandFilter {
  readonly vm?: string
  readonly host?: string
  readonly state?: OperationState
  readonly open?: boolean
  readonly looks?: boolean
}

export interface CommandStore {
  /** The next generation of that name: greater than all before it, whatever became of those. */
  nextGeneration(vm: string): Promise<number>
  /** The command made earlier with that key. Throws E_CONFLICT when it was made by another request. */
  repeated(repeatable: Repeatable): Promise<CommandRecord | undefined>
  /**
   * Durable when it resolves. Throws E_CONFLICT when the host is revoked or the VM's name or UUID is taken, E_NOT_FOUND when
   * the VM is gone, E_BUSY when the host has `openCommandsMax` open ones.
   */
  add(command: NewCommand): Promise<CommandRecord>
  find(id: string): Promise<CommandRecord | undefined>
  list(filter: CommandFilter, limit: number): Promise<Page<CommandRecord>>
  countOpen(): Promise<number>
  openOf(host: string): Promise<readonly CommandRecord[]>
  /**
   * The oldest command to send now: one that waits, that was sent over another connection or long ago without an answer,
   * or that another run of the agent took. One whose VM has an earlier command that waits for its next try waits too.
   */
  undelivered(courier: Courier): Promise<CommandRecord | undefined>
  /** False when it has ended meanwhile. */
  sent(id: string, courier: Pick<Courier, 'connection' | 'now'>): Promise<boolean>
  acknowledged(id: string, host: string, taken: { at: number; instance: string }): Promise<boolean>
  progress(host: string, progress: AgentMessageOf<'progress'>): Promise<boolean>
  /** Nothing happened on the host; it is to be sent again at `retryAt`. False when the host has taken it, or it has ended. */
  postponed(seen: CommandRecord, refusal: ErrorReport, retryAt: number): Promise<boolean>
  /**
   * Nothing happened on the host, which wants more approvals: it is sent again when one comes, or over another connection.
   * At once where one came while it was on its way. False when the host has taken it, or it has ended.
   */
  held(seen: CommandRecord, refusal: ErrorReport, connection: string): Promise<boolean>
  /** Ended without a result, and known to be. False when it had ended, or is not in the state in which it was seen. */
  failed(seen: CommandRecord, error: ErrorReport, at: number, consequence: VmConsequence): Promise<boolean>
  /** Durable when it resolves. The first result stays; one that comes after expiry replaces the guess. False when it does not count. */
  finished(
    host: string,
    result: CommandResult,
    at: number,
    consequence: VmConsequence,
    told: Told
  ): Promise<boolean>
  /** Open commands whose time is over: untaken ones past their expiry, taken ones that are as old as `abandonAfterMs`. */
  overdue(now: number, abandonAfterMs: number): Promise<readonly CommandRecord[]>
  /** False when it has ended, or was taken or sent, since it was looked at. */
  expired(seen: CommandRecord, error: ErrorReport, at: number, consequence: VmConsequence): Promise<boolean>
  /** Calls back when a command has ended; one that expired and then ended after all does so twice. */
  onEnd(listener: (end: CommandEnd) => void): Disposable
  /** Calls back after each change of a command, with its id. */
  onChange(listener: (id: string) => void): Disposable
}

export interface StoreBounds {
  readonly commands: Bound
  readonly metrics: Bound
  readonly events: Bound
  /** Absent: all of it stays. */
  readonly audit?: Bound
}

export interface Bound {
  readonly keepMs: number
  readonly rowsMax: number
}

export interface Store {
  readonly tokens: TokenStore
  readonly hosts: HostStore
  readonly vms: VmStore
  readonly commands: CommandStore
  readonly approvals: ApprovalStore
  readonly metrics: MetricsStore
  readonly events: EventStore
  readonly fleet: FleetStore
  readonly backups: BackupStore
  readonly erasures: EraseStore
  readonly diskKeys: DiskKeyStore
  readonly keys: KeyStore
  readonly placements: PlacementStore
  readonly sessions: SessionStore
  readonly secondFactors: SecondFactorStore
  readonly audit: AuditStore
  readonly trails: TrailStore
  readonly trust: TrustStore
  /** Forgets what is older, or more, than the bounds allow. Resolves with the number of rows forgotten. */
  prune(now: number): Promise<number>
  /** Whether another process has written since the last call. May say so without need. */
  changedByOthers(): Promise<boolean>
  close(): Promise<void>
}
