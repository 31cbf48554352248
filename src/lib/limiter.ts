// Bounded work: so many at a time, so many waiting, and E_BUSY for the rest, said at once.

import { HostletError } from '../errors.ts'

/** A place in the line. Dispose of it when the work is over, or when it is not to happen. */
export interface Ticket extends Disposable {
  /** How many wait before it for their turn; undefined when it does not wait. */
  readonly ahead: number | undefined
  /** Resolves when it is this ticket's turn. Rejects with the signal's reason when aborted; the place is then given up. */
  turn(signal?: AbortSignal): Promise<void>
}

type TicketState = 'idle' | 'waiting' | 'running' | 'over'

interface Entry {
  state: TicketState
  grant: () => void
  startedAt: number
}

/** Bounds of what a refusal says of when to come again. */
export const retryAfterMsMin = 1_000
export const retryAfterMsMax = 60_000
/** How much the newest piece of work counts for how long one takes. */
const newestWeight = 0.25

export interface LimiterOptions {
  readonly concurrencyMax: number
  readonly waitingMax: number
  /** Milliseconds that only grow, to learn how long work takes; without it a refusal names the shortest wait. */
  readonly clock?: { monotonic(): number }
}

export class Limiter {
  readonly #concurrencyMax: number
  readonly #waitingMax: number
  readonly #clock: LimiterOptions['clock']
  readonly #line: Entry[] = []
  #typicalMs: number | undefined
  #running = 0
  #entered = 0

  constructor({ concurrencyMax, waitingMax, clock }: LimiterOptions) {
    this.#concurrencyMax = concurrencyMax
    this.#waitingMax = waitingMax
    this.#clock = clock
  }

  get running(): number {
    return this.#running
  }

  get waiting(): number {
    return this.#entered - this.#running
  }

  /** How long until half of those that wait have had their turn, going by how long work took of late; bounded. */
  get retryAfterMs(): number {
    const turns = (this.waiting / 2 + 1) / this.#concurrencyMax
    const ms = Math.round((this.#typicalMs ?? 0) * turns)
    return Math.min(retryAfterMsMax, Math.max(retryAfterMsMin, ms))
  }

  /**
   * Takes a place, or throws E_BUSY when all are taken. `always` is for work that was accepted earlier, before a
   * restart: it is never refused.
   */
  enter({ always = false }: { always?: boolean } = {}): Ticket {
    if (!always && this.#entered >= this.#concurrencyMax + this.#waitingMax)
      throw new HostletError(
        'E_BUSY',
        `${this.#running} operations run and ${this.waiting} wait already. Try again in ${Math.ceil(this.retryAfterMs / 1_000)} s.`,
        { details: { running: this.#running, waiting: this.waiting, retryAfterMs: this.retryAfterMs } }
      )
    this.#entered++
    const entry: Entry = { state: 'idle', grant: () => undefined, startedAt: 0 }
    const ahead = () => (entry.state === 'waiting' ? this.#line.indexOf(entry) : undefined)
    return {
      get ahead() {
        return ahead()
      },
      turn: (signal) => this.#turn(entry, signal),
      [Symbol.dispose]: () => this.#leave(entry)
    }
  }

  async #turn(entry: Entry, signal?: AbortSignal): Promise<void> {
    signal?.throwIfAborted()
    if (entry.state !== 'idle')
      throw new HostletError('E_INTERNAL', `a ticket was used twice (${entry.state})`)
    if (this.#running < this.#concurrencyMax) return this.#run(entry)
    await this.#wait(entry, signal)
  }

  #wait(entry: Entry, signal: AbortSignal | undefined): Promise<void> {
    return new Promise((resolve, reject) => {
      const abort = () => {
        this.#leave(entry)
        reject(signal?.reason)
      }
      entry.state = 'waiting'
      entry.grant = () => {
        signal?.removeEventListener('abort', abort)
        this.#run(entry)
        resolve()
      }
      signal?.addEventListener('abort', abort, { once: true })
      this.#line.push(entry)
    })
  }

  #run(entry: Entry): void {
    entry.state = 'running'
    entry.startedAt = this.#clock?.monotonic() ?? 0
    this.#running++
  }

  #leave(entry: Entry): void {
    const { state } = entry
    if (state === 'over') return
    entry.state = 'over'
    this.#entered--
    if (state === 'waiting') this.#line.splice(this.#line.indexOf(entry), 1)
    if (state !== 'running') return
    this.#running--
    this.#learn((this.#clock?.monotonic() ?? 0) - entry.startedAt)
    this.#line.shift()?.grant()
  }

  #learn(tookMs: number): void {
    const before = this.#typicalMs ?? tookMs
    this.#typicalMs = before + newestWeight * (tookMs - before)
  }
}
