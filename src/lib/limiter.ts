// Bounded work: so many at a time, so many waiting, and E_BUSY for the rest, said at once.

import { HostletError } from '../errors.ts'

/** A place in the line. Dispose of it when the work is over, or when it is not to happen. */
export interface Ticket extends Disposable {
  /** Resolves when it is this ticket's turn. Rejects with the signal's reason when aborted; the place is then given up. */
  turn(signal?: AbortSignal): Promise<void>
}

type TicketState = 'idle' | 'waiting' | 'running' | 'over'

interface Entry {
  state: TicketState
  grant: () => void
}

export class Limiter {
  readonly #concurrencyMax: number
  readonly #waitingMax: number
  readonly #line: Entry[] = []
  #running = 0
  #entered = 0

  constructor({ concurrencyMax, waitingMax }: { concurrencyMax: number; waitingMax: number }) {
    this.#concurrencyMax = concurrencyMax
    this.#waitingMax = waitingMax
  }

  get running(): number {
    return this.#running
  }

  get waiting(): number {
    return this.#entered - this.#running
  }

  /**
   * Takes a place, or throws E_BUSY when all are taken. `always` is for work that was accepted earlier, before a
   * restart: it is never refused.
   */
  enter({ always = false }: { always?: boolean } = {}): Ticket {
    if (!always && this.#entered >= this.#concurrencyMax + this.#waitingMax)
      throw new HostletError(
        'E_BUSY',
        `${this.#running} operations run and ${this.waiting} wait already. Try again later.`,
        { details: { running: this.#running, waiting: this.waiting } }
      )
    this.#entered++
    const entry: Entry = { state: 'idle', grant: () => undefined }
    return { turn: (signal) => this.#turn(entry, signal), [Symbol.dispose]: () => this.#leave(entry) }
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
    this.#line.shift()?.grant()
  }
}
