// Deadlines: a signal that aborts with E_TIMEOUT, and waits that end when a signal says so.

import { HostletError } from '../errors.ts'
import type { Clock } from './clock.ts'

export interface Deadline extends Disposable {
  /** Aborted when the time is over, with E_TIMEOUT as the reason, or when the outer signal is, with its reason. */
  readonly signal: AbortSignal
}

/** Starts a deadline of so many milliseconds on the monotonic clock. `what` is the thing that takes too long. */
export function startDeadline(options: {
  readonly clock: Pick<Clock, 'timer'>
  readonly ms: number
  readonly what: string
  readonly signal?: AbortSignal | undefined
}): Deadline {
  const { clock, ms, what, signal: outer } = options
  const controller = new AbortController()
  const follow = () => controller.abort(outer?.reason)
  if (outer?.aborted) follow()
  outer?.addEventListener('abort', follow, { once: true })
  const timer = clock.timer(ms, () =>
    controller.abort(new HostletError('E_TIMEOUT', `${what} took longer than ${ms} ms`, { details: { ms } }))
  )
  return {
    signal: controller.signal,
    [Symbol.dispose]: () => {
      timer[Symbol.dispose]()
      outer?.removeEventListener('abort', follow)
    }
  }
}

/** The promise, or a rejection with the signal's reason once aborted. The work behind the promise is not stopped. */
export function untilAborted<Value>(promise: Promise<Value>, signal: AbortSignal): Promise<Value> {
  return new Promise((resolve, reject) => {
    const abort = () => reject(signal.reason)
    if (signal.aborted) abort()
    signal.addEventListener('abort', abort, { once: true })
    promise.then(resolve, reject).finally(() => signal.removeEventListener('abort', abort))
  })
}
