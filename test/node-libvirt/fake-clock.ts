/** FakeClock: time that passes only when a test says so. */
import type { Clock } from '../../src/node-libvirt/clock.ts'

interface Timer {
  readonly dueMs: number
  readonly callback: () => void
}

export class FakeClock implements Clock {
  #nowMs = 0
  readonly #timers = new Set<Timer>()

  /** Timers that are neither due nor cancelled. */
  get pending(): number {
    return this.#timers.size
  }

  nowMs(): number {
    return this.#nowMs
  }

  after(delayMs: number, callback: () => void): () => void {
    const timer = { dueMs: this.#nowMs + delayMs, callback }
    this.#timers.add(timer)
    return () => this.#timers.delete(timer)
  }

  /** Lets time pass, running what falls due in its order. */
  advance(durationMs: number): void {
    const endMs = this.#nowMs + durationMs
    for (let timer = this.#next(endMs); timer; timer = this.#next(endMs)) {
      this.#timers.delete(timer)
      this.#nowMs = timer.dueMs
      timer.callback()
    }
    this.#nowMs = endMs
  }

  #next(endMs: number): Timer | undefined {
    const due = [...this.#timers].filter((timer) => timer.dueMs <= endMs)
    return due.sort((left, right) => left.dueMs - right.dueMs)[0]
  }
}
