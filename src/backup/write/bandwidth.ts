// A limit of bytes per second, kept by waiting before each transfer.

import { HostletError } from '../../errors.ts'
import type { Clock } from '../../lib/clock.ts'

/** How much of the time may be saved up while nothing is transferred. */
const burstMs = 250

export class Bandwidth {
  readonly #clock: Pick<Clock, 'monotonic' | 'sleep'>
  readonly #bytesPerMs: number
  #paidUntil: number

  /** No limit where `bytesPerSecond` is undefined. */
  constructor(clock: Pick<Clock, 'monotonic' | 'sleep'>, bytesPerSecond: number | undefined) {
    if (bytesPerSecond !== undefined && !(bytesPerSecond > 0))
      throw new HostletError('E_BAD_REQUEST', `a limit of ${bytesPerSecond} bytes per second is none`)
    this.#clock = clock
    this.#bytesPerMs = bytesPerSecond === undefined ? Number.POSITIVE_INFINITY : bytesPerSecond / 1000
    this.#paidUntil = clock.monotonic()
  }

  /** Resolves when these bytes may be transferred; callers are served in the order they came. */
  async take(bytes: number, signal: AbortSignal): Promise<void> {
    if (this.#bytesPerMs === Number.POSITIVE_INFINITY) return
    const now = this.#clock.monotonic()
    const start = Math.max(this.#paidUntil, now - burstMs)
    this.#paidUntil = start + bytes / this.#bytesPerMs
    if (this.#paidUntil > now) await this.#clock.sleep(this.#paidUntil - now, signal)
  }
}
