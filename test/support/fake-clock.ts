// A clock that stands still until a test moves it.

import type { Clock } from '../../src/lib/clock.ts'

interface Timer {
  readonly at: number
  readonly callback: () => void
}

export class FakeClock implements Clock {
  #now: number
  #elapsed = 0
  readonly #timers = new Set<Timer>()

  constructor(now = Date.parse('2030-01-02T03:04:05Z')) {
    this.#now = now
  }

  now(): number {
    return this.#now
  }

  monotonic(): number {
    return this.#elapsed
  }

  /** Timers and sleeps that have not fired. */
  get pending(): number {
    return this.#timers.size
  }

  /** Moves only the wall clock, as an administrator or NTP does. */
  jump(ms: number): void {
    this.#now += ms
  }

  sleep(ms: number, signal?: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      if (signal?.aborted) return reject(signal.reason)
      const timer = this.timer(ms, resolve)
      signal?.addEventListener('abort', () => {
        timer[Symbol.dispose]()
        reject(signal.reason)
      })
    })
  }

  timer(ms: number, callback: () => void): Disposable {
    const timer = { at: this.#elapsed + ms, callback }
    this.#timers.add(timer)
    return { [Symbol.dispose]: () => void this.#timers.delete(timer) }
  }

  /** Moves time on and fires what is due, in order; lets promises settle after each. */
  async advance(ms: number): Promise<void> {
    const end = this.#elapsed + ms
    for (let due = this.#due(end); due !== undefined; due = this.#due(end)) {
      this.#timers.delete(due)
      this.#move(due.at)
      due.callback()
      await settle()
    }
    this.#move(end)
    await settle()
  }

  #due(end: number): Timer | undefined {
    return [...this.#timers].filter(({ at }) => at <= end).sort((a, b) => a.at - b.at)[0]
  }

  #move(elapsed: number): void {
    this.#now += elapsed - this.#elapsed
    this.#elapsed = elapsed
  }
}

/** Lets everything that is ready to run do so. */
export async function settle(): Promise<void> {
  for (let turn = 0; turn < 5; turn++) await new Promise((resolve) => setImmediate(resolve))
}
