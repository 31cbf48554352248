// What an explanation is made of, whoever told it: the scheduler, or the agent of this host.

import type { ErrorReport } from '../../errors.ts'
import type { LocalOperation } from '../../protocol/local.ts'
import type { Condition } from '../../protocol/messages.ts'
import type { ForeignDomain, VmSummary } from '../../protocol/vm.ts'
import type { OperationWait } from '../../protocol/waiting.ts'

type Step = Pick<LocalOperation, 'step' | 'stepIndex' | 'steps' | 'ratio' | 'note' | 'transfer' | 'trouble'>

export interface OperationFacts extends Step {
  readonly id: string
  readonly verb: string
  readonly vm?: string | undefined
  readonly host: string
  /** `waiting` and `sent` are the scheduler's: the host has not taken it yet. `queued`: the host has, and it has not begun. */
  readonly state: 'waiting' | 'sent' | 'queued' | 'running' | 'undoing' | 'done' | 'failed' | 'expired'
  readonly since: number
  readonly finishedAt?: number | undefined
  readonly wait?: OperationWait | undefined
  readonly error?: ErrorReport | undefined
  readonly cancelled?: boolean | undefined
  readonly attempts?: number | undefined
  /** The scheduler's own word: why it waits, or what to do. */
  readonly hint?: string | undefined
  readonly awaits?: 'approval' | undefined
}

export interface HostFacts {
  readonly id: string
  readonly state: 'new' | 'connected' | 'away' | 'revoked'
  /** A sentence, or the half of one, with what is known of it. */
  readonly reason: string | undefined
  readonly since?: number | undefined
  readonly libvirt: 'connected' | 'away' | 'unknown'
  readonly libvirtReason?: string | undefined
  readonly drainingSince?: number | undefined
  readonly conditions: readonly Condition[]
  readonly clockSkewMs?: number | undefined
  readonly certificateExpiresAt?: number | undefined
  readonly foreign: readonly ForeignDomain[]
}

export interface VmFacts extends Pick<VmSummary, 'name' | 'wanted' | 'reason' | 'health' | 'drift'> {
  readonly state: string
  readonly retainedUntil?: number | undefined
  readonly startedAt?: number | undefined
  /** False where its state is the last known. */
  readonly fresh: boolean
}

/** The last thing that happened to a VM that is off. */
export interface LastEvent {
  readonly at: number
  readonly kind: string
  readonly detail: string
}

export interface Finding {
  readonly text: string
  readonly since?: number
  readonly severity?: Condition['severity']
}

/** The answer. `next` is empty where all is well. */
export interface Why {
  readonly kind: 'vm' | 'operation' | 'host'
  readonly name: string
  readonly state: string
  readonly since?: number
  /** The reason in one sentence. */
  readonly says: string
  readonly findings: readonly Finding[]
  readonly next: readonly string[]
}
