/** Clock: the monotonic time and timers of a connection, replaceable in tests. */
import { performance } from 'node:perf_hooks'

export interface Clock {
  /** Monotonic milliseconds from an arbitrary start. */
  nowMs(): number
  /** Runs `callback` once after `delayMs`; the returned function cancels that. */
  after(delayMs: number, callback: () => void): () => void
}

export const systemClock: Clock = {
  nowMs: () => performance.now(),
  after: (delayMs, callback) => {
    const timer = setTimeout(callback, delayMs)
    return () => clearTimeout(timer)
  }
}
