// Time as a dependency: wall clock for stamps, monotonic clock for durations, waits that can be cancelled.

import { setTimeout as timerSleep } from 'node:timers/promises'

export interface Clock {
  /** Milliseconds since the epoch. May jump: for stamps and expiry only. */
  now(): number
  /** Milliseconds from an arbitrary start. Never jumps back: for durations and deadlines. */
  monotonic(): number
  /** Resolves after the time; rejects with the signal's reason when aborted. */
  sleep(ms: number, signal?: AbortSignal): Promise<void>
  /** Runs a callback after the time, without keeping the process alive. Dispose to cancel. */
  timer(ms: number, callback: () => void): Disposable
}

export const systemClock: Clock = {
  now: () => Date.now(),
  monotonic: () => performance.now(),
  sleep: async (ms, signal) => {
    signal?.throwIfAborted()
    try {
      await timerSleep(ms, undefined, signal === undefined ? {} : { signal })
    } catch (error) {
      throw signal?.aborted ? signal.reason : error
    }
  },
  timer: (ms, callback) => {
    const handle = setTimeout(callback, ms).unref()
    return { [Symbol.dispose]: () => clearTimeout(handle) }
  }
}
