// What the scheduler remembers for audit: the calls of its API as a chain of its own, and the heads of the trails of hosts.

import type { ChainEntry, EntryFields, Link } from '../../lib/chain.ts'
import type { auditFailures } from '../../protocol/api.ts'
import type { AgentMessageOf } from '../../protocol/messages.ts'
import type { Page } from './store.ts'

export interface NewAuditEntry {
  readonly at: number
  readonly kind: string
  readonly fields: EntryFields
}

export interface AuditFilter {
  readonly after: number
  readonly newest?: boolean | undefined
  readonly kind?: string | undefined
  readonly key?: string | undefined
  readonly object?: string | undefined
  readonly operation?: string | undefined
  readonly refused?: boolean | undefined
  readonly failure?: (typeof auditFailures)[number] | undefined
  /** By the scheduler's clock, in milliseconds since the epoch. */
  readonly since?: number | undefined
  readonly until?: number | undefined
}

/** Entries hold on to one another; only the oldest are ever forgotten. */
export interface AuditStore {
  /** Durable when it resolves. */
  append(entry: NewAuditEntry): Promise<Link>
  /** Oldest first; with `newest` the last ones of them instead of the first. What is no entry any more is of kind `unreadable`. */
  list(filter: AuditFilter, limit: number): Promise<Page<ChainEntry>>
  /** The newest entry, and the newest one that was forgotten. */
  ends(): Promise<{ readonly head: Link; readonly anchor: Link }>
}

export type TrailHead = Pick<AgentMessageOf<'audit-head'>, 'seq' | 'hash' | 'earlier'>

export interface KeptHead extends Link {
  readonly at: number
}

/** Why a host's trail is not believed, since when. */
export interface TrailFaultRecord {
  readonly at: number
  readonly message: string
}

export type HeadOutcome =
  | { readonly kind: 'kept' }
  /** Whether the head goes on from the newest that is held can't be told before the host has said what it has there. */
  | { readonly kind: 'ask'; readonly seq: number }
  | { readonly kind: 'refused'; readonly message: string; readonly isNew: boolean }

export interface TrailStore {
  /** Durable when it resolves: a head that goes on from the newest is kept, one that does not is a fault until `reset`. */
  note(host: string, head: TrailHead, at: number): Promise<HeadOutcome>
  /** Newest first; a bounded number. */
  heads(host: string): Promise<readonly KeptHead[]>
  fault(host: string): Promise<TrailFaultRecord | undefined>
  /** Forgets heads and fault: the next head is believed, whatever it is. False when there was nothing. */
  reset(host: string): Promise<boolean>
}
