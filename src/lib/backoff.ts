// Waits between attempts: exponential with full jitter, so that a fleet does not come back all at once.

export interface BackoffOptions {
  /** Upper bound of the first wait. */
  readonly baseMs: number
  /** Upper bound of every wait. */
  readonly capMs: number
  /** Uniform in [0, 1); injected for tests. */
  readonly random?: () => number
}

/** Past this many doublings every sensible cap is reached; keeps the power finite. */
const doublingsMax = 30

export class Backoff {
  readonly #options: Required<BackoffOptions>
  #attempts = 0

  constructor(options: BackoffOptions) {
    this.#options = { random: Math.random, ...options }
  }

  /** Attempts since the last reset. */
  get attempts(): number {
    return this.#attempts
  }

  /** Milliseconds to wait before the next attempt: uniform between 0 and the bound that doubles with each call. */
  nextMs(): number {
    const { baseMs, capMs, random } = this.#options
    const bound = Math.min(capMs, baseMs * 2 ** Math.min(this.#attempts, doublingsMax))
    this.#attempts++
    return Math.floor(random() * bound)
  }

  /** After a success. */
  reset(): void {
    this.#attempts = 0
  }
}
