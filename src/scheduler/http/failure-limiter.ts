// Counts failed authentications by address, so that a flood of guesses gets short answers and few log lines.

import type { Clock } from '../../lib/clock.ts'

/** Failures of one address within the window before it is told to wait. A right key always passes. */
export const failuresMax = 20
export const failureWindowMs = 60_000
/** Addresses that are watched at once; the one seen first is forgotten for a new one. */
export const addressesMax = 10_000

export class FailureLimiter {
  readonly #clock: Pick<Clock, 'monotonic'>
  readonly #windows = new Map<string, { until: number; failures: number }>()

  constructor(clock: Pick<Clock, 'monotonic'>) {
    this.#clock = clock
  }

  /** Notes a failure; true when the address has had too many. */
  exceeds(address: string): boolean {
    const now = this.#clock.monotonic()
    const known = this.#windows.get(address)
    const window =
      known === undefined || known.until <= now ? { until: now + failureWindowMs, failures: 0 } : known
    window.failures++
    if (window !== known) this.#remember(address, window)
    return window.failures > failuresMax
  }

  #remember(address: string, window: { until: number; failures: number }): void {
    this.#windows.delete(address)
    const [oldest] = this.#windows.keys()
    if (this.#windows.size >= addressesMax && oldest !== undefined) this.#windows.delete(oldest)
    this.#windows.set(address, window)
  }
}
