// Another try for what another try may mend: bounded, with full jitter, in this one place.

import type { HostletError } from '../../errors.ts'
import { Backoff } from '../../lib/backoff.ts'
import type { Clock } from '../../lib/clock.ts'

export interface RetryOptions {
  readonly clock: Pick<Clock, 'sleep'>
  readonly signal: AbortSignal
  readonly attemptsMax?: number
  readonly random?: () => number
  /** Told of each failure that is tried again. */
  readonly onRetry?: (error: HostletError, attempt: number) => void
}

/** Together about ten seconds of waiting. */
export const attemptsMaxDefault = 7
const waitBaseMs = 200
const waitCapMs = 10_000

/** Marks errors that another try may mend; set by whoever maps them. */
export interface Retryable {
  readonly error: HostletError
  readonly retryable: boolean
}

/** Runs the work until it succeeds, fails for good, or has failed too often. `classify` says what a failure means. */
export async function withRetries<Value>(
  work: (attempt: number) => Promise<Value>,
  classify: (thrown: unknown) => Retryable,
  options: RetryOptions
): Promise<Value> {
  const { clock, signal, attemptsMax = attemptsMaxDefault, random = Math.random } = options
  const backoff = new Backoff({ baseMs: waitBaseMs, capMs: waitCapMs, random })
  for (let attempt = 1; ; attempt++) {
    signal.throwIfAborted()
    try {
      return await work(attempt)
    } catch (thrown) {
      signal.throwIfAborted()
      const { error, retryable } = classify(thrown)
      if (!retryable || attempt >= attemptsMax) throw error
      options.onRetry?.(error, attempt)
      await clock.sleep(backoff.nextMs(), signal)
    }
  }
}
