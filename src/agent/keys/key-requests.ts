// Questions to the scheduler for keys that it keeps, each with its answer or an end in time.

import { randomUUID } from 'node:crypto'
import { HostletError } from '../../errors.ts'
import type { Clock } from '../../lib/clock.ts'
import { startDeadline, untilAborted } from '../../lib/deadline.ts'
import type { DiskKeysGrant, GrantedKey } from '../../protocol/keys.ts'
import type { AgentMessage } from '../../protocol/messages.ts'
import type { Wait } from '../host/hypervisor.ts'

/** How long the scheduler may take to answer about keys. */
export const keyAnswerMs = 20_000

/** The way to the scheduler; what is posted while it is away is lost. */
export interface SchedulerLine {
  isOnline(): boolean
  post(message: AgentMessage): void
}

/** Marks errors that end by themselves once the scheduler is back. */
export const keysAway = 'keys-away'

export class KeyRequests {
  readonly #line: SchedulerLine
  readonly #clock: Clock
  readonly #open = new Map<string, { id: string; answer: (grant: DiskKeysGrant) => void }>()

  constructor({ line, clock }: { readonly line: SchedulerLine; readonly clock: Clock }) {
    this.#line = line
    this.#clock = clock
  }

  /** Throws E_UNAVAILABLE while the scheduler is away, E_CONFLICT when the key is withheld, E_NOT_FOUND. */
  async ask(id: string, wait?: Wait): Promise<GrantedKey> {
    if (!this.#line.isOnline()) throw away('which is away')
    const request = randomUUID()
    const answer = Promise.withResolvers<DiskKeysGrant>()
    this.#open.set(request, { id, answer: answer.resolve })
    try {
      using deadline = startDeadline({
        clock: this.#clock,
        ms: keyAnswerMs,
        what: 'asking the scheduler for a key',
        ...(wait && { signal: wait.signal })
      })
      this.#post(request, id)
      return granted(id, await untilAborted(answer.promise, deadline.signal))
    } catch (error) {
      if (error instanceof HostletError && error.code === 'E_TIMEOUT' && wait?.signal.aborted !== true)
        throw away('which did not answer in time')
      throw error
    } finally {
      this.#open.delete(request)
    }
  }

  /** The scheduler is there again: what was asked before, or its answer, may have gone with the connection. */
  online(): void {
    for (const [request, { id }] of this.#open) this.#post(request, id)
  }

  /** An answer that nobody waits for any more is dropped. */
  take(grant: DiskKeysGrant): void {
    this.#open.get(grant.request)?.answer(grant)
  }

  #post(request: string, id: string): void {
    this.#line.post({ type: 'disk-keys-request', request, ids: [id] })
  }
}

/** Where the keys of this host are, in words that say what to do. */
export function away(why: string): HostletError {
  return new HostletError(
    'E_UNAVAILABLE',
    `the keys of this host's disks lie at the scheduler (keys: scheduler), ${why}: nothing starts without it. It goes on when the scheduler is back; see "hostlet host ls" there and "journalctl -u hostlet" here.`,
    { details: { reason: keysAway } }
  )
}

function granted(id: string, { keys, denied }: DiskKeysGrant): GrantedKey {
  const key = keys.find((one) => one.id === id)
  if (key !== undefined) return key
  if (denied.some((one) => one.id === id && one.reason === 'withheld'))
    throw new HostletError(
      'E_CONFLICT',
      `an operator withholds the key ${id} of a disk: the VM cannot be started. Give it out with "hostlet vm keys NAME --release".`,
      { details: { key: id } }
    )
  throw new HostletError('E_NOT_FOUND', `the scheduler has no key ${id} for this host`, {
    details: { key: id }
  })
}
