// The scheduler's own audit: every call that changes something and every refused one, in a chain that floods do not fill.

import { asHostletError } from '../errors.ts'
import type { EntryFields } from '../lib/chain.ts'
import type { Clock } from '../lib/clock.ts'
import { FloodGate, type Held } from '../lib/flood-gate.ts'
import type { Logger } from '../lib/log.ts'
import type { ReceiptClaims } from '../protocol/trail.ts'
import type { AuditStore } from './store/audit-store.ts'

/** Failed calls of one address without a known key, and of one key, that are written down one by one in a minute. */
export const unknownFailuresMax = 20
export const keyFailuresMax = 300
export const failureWindowMs = 60_000
const addressesMax = 256
const keysMax = 1_024

export interface AuditOptions {
  readonly store: AuditStore
  readonly clock: Pick<Clock, 'now' | 'timer'>
  readonly log: Logger
  /** Calls that only look are written down too. */
  readonly reads: boolean
  signReceipt(claims: ReceiptClaims): Promise<string>
}

/** One call of the API as it ended. */
export interface ApiCall {
  readonly request: string
  /** Absent where nobody showed a key that is known; without a note where it has expired. */
  readonly key?: string
  readonly note?: string
  readonly tier?: string
  readonly owner?: string
  /** Of the session, where it was not the key itself that was shown. */
  readonly session?: string
  /** 2 where a second factor was shown besides the key. */
  readonly factors?: 1 | 2
  readonly from: string
  readonly method: string
  readonly route: string
  readonly object?: string
  /** The key that came of it, where it was about another. */
  readonly made?: string
  readonly status: number
  readonly code?: string
  /** Why it was refused, where the code alone does not say. */
  readonly reason?: string
  readonly operation?: string
  readonly durationMs: number
}

/** What the hub needs of it. */
export interface Witness {
  /** The receipt also says where this scheduler's own audit stands: the hosts keep that for it. */
  receipt(claims: ReceiptClaims): Promise<string>
  /** Never throws: what happened has happened. */
  record(kind: string, fields: EntryFields): Promise<void>
}

export class Audit implements Witness, Disposable {
  readonly #options: AuditOptions
  readonly #unknown: FloodGate
  readonly #known: FloodGate

  constructor(options: AuditOptions) {
    const { clock } = options
    this.#options = options
    const gate = { clock, windowMs: failureWindowMs, onOver: (held: Held) => this.#tellHeld(held) }
    this.#unknown = new FloodGate({ ...gate, passMax: unknownFailuresMax, keysMax: addressesMax })
    this.#known = new FloodGate({ ...gate, passMax: keyFailuresMax, keysMax })
  }

  /** Durable when it resolves, unless it is one of too many failures, or only looked. Throws what the store throws. */
  async call(call: ApiCall): Promise<void> {
    const failed = call.status >= 400
    const isRefused = call.status === 401 || call.status === 403 || call.status === 429
    if (call.method === 'GET' && !isRefused && !this.#options.reads) return
    if (failed && !this.#passes(call)) return
    await this.#append('api', { ...call })
  }

  async record(kind: string, fields: EntryFields): Promise<void> {
    try {
      await this.#append(kind, fields)
    } catch (error) {
      this.#options.log.error({ kind, error: asHostletError(error) }, 'audit entry could not be written')
    }
  }

  async receipt(claims: ReceiptClaims): Promise<string> {
    const { head } = await this.#options.store.ends()
    return this.#options.signReceipt(head.seq === 0 ? claims : { ...claims, scheduler: { ...head } })
  }

  [Symbol.dispose](): void {
    this.#unknown.flush()
    this.#known.flush()
  }

  #passes({ key, from }: ApiCall): boolean {
    return key === undefined ? this.#unknown.pass(from) : this.#known.pass(key)
  }

  async #append(kind: string, fields: EntryFields): Promise<void> {
    const { store, clock } = this.#options
    await store.append({ at: clock.now(), kind, fields })
  }

  #tellHeld({ key, count, since }: Held): void {
    void this.record('api.refused-more', { of: key, count, since })
  }
}
