// A clock that stands still until the test moves it.

import type { Clock } from '../../../src/lib/clock.ts'

export class FakeClock implements Clock {
  #nowMs = 1_000
  #timers = new Set<{ dueMs: number; callback: () => void }>()

  now(): number {
    return 1_700_000_000_000 + this.#nowMs
  }

  monotonic(): number {
    return this.#nowMs
  }

  sleep(ms: number): Promise<void> {
    return new Promise((resolve) => {
      this.timer(ms, resolve)
    })
  }

  timer(ms: number, callback: () => void): Disposable {
    const timer = { dueMs: this.#nowMs + ms, callback }
    this.#timers.add(timer)
    return { [Symbol.dispose]: () => void this.#timers.delete(timer) }
  }

  get pending(): number {
    return this.#timers.size
  }

  /** Moves on, firing timers in order; lets everything that follows from each settle. */
  async advance(ms: number): Promise<void> {
    const endMs = this.#nowMs + ms
    for (;;) {
      const next = [...this.#timers].sort((a, b) => a.dueMs - b.dueMs)[0]
      if (next === undefined || next.dueMs > endMs) break
      this.#timers.delete(next)
      this.#nowMs = Math.max(this.#nowMs, next.dueMs)
      next.callback()
      await settle()
    }
    this.#nowMs = endMs
    await settle()
  }
}

function settle(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve))
}
