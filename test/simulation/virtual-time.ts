// Time that passes only when something is due: one queue of all that will happen, and a clock for each machine, which may be wrong.

import type { Clock } from '../../src/lib/clock.ts'

/** Every world begins at the same moment. */
export const epochMs = Date.parse('2030-01-02T03:04:05Z')

interface Due {
  readonly at: number
  /** Of two that are due at once the older comes first. */
  readonly sequence: number
  readonly callback: () => void
  cancelled: boolean
}

export class VirtualTime {
  /** Milliseconds since the world began. */
  elapsed = 0
  readonly #heap: Due[] = []
  #sequence = 0

  after(ms: number, callback: () => void): Disposable {
    const at = this.elapsed + Math.max(0, Math.ceil(ms))
    const due = { at, sequence: this.#sequence++, callback, cancelled: false }
    this.#push(due)
    return {
      [Symbol.dispose]: () => {
        due.cancelled = true
      }
    }
  }

  /** Moves on to what is due next and lets it happen. False when nothing is due before `until`: then it is that late. */
  step(until: number): boolean {
    for (let next = this.#heap[0]; next !== undefined && next.at <= until; next = this.#heap[0]) {
      this.#pop()
      if (next.cancelled) continue
      this.elapsed = next.at
      next.callback()
      return true
    }
    this.elapsed = Math.max(this.elapsed, until)
    return false
  }

  #push(due: Due): void {
    const heap = this.#heap
    let index = heap.length
    heap.push(due)
    while (index > 0) {
      const parent = (index - 1) >> 1
      if (!isBefore(due, heap[parent] as Due)) break
      heap[index] = heap[parent] as Due
      index = parent
    }
    heap[index] = due
  }

  #pop(): void {
    const heap = this.#heap
    const last = heap.pop() as Due
    if (heap.length === 0) return
    let index = 0
    for (;;) {
      let child = 2 * index + 1
      if (child >= heap.length) break
      if (child + 1 < heap.length && isBefore(heap[child + 1] as Due, heap[child] as Due)) child++
      if (!isBefore(heap[child] as Due, last)) break
      heap[index] = heap[child] as Due
      index = child
    }
    heap[index] = last
  }
}

function isBefore(left: Due, right: Due): boolean {
  return left.at === right.at ? left.sequence < right.sequence : left.at < right.at
}

/** Whether a process still runs. What it waits for never comes once it does not. */
export interface Life {
  isAlive: boolean
}

/** What a machine's wall clock is wrong by. */
export interface Skew {
  ms: number
}

/** The clock of one process: its machine's wall clock, and no timer that fires after its death. */
export class MachineClock implements Clock {
  readonly #time: VirtualTime
  readonly #life: Life
  readonly #skew: Skew

  constructor({ time, life, skew }: { time: VirtualTime; life: Life; skew: Skew }) {
    this.#time = time
    this.#life = life
    this.#skew = skew
  }

  now(): number {
    return epochMs + this.#time.elapsed + this.#skew.ms
  }

  monotonic(): number {
    return this.#time.elapsed
  }

  sleep(ms: number, signal?: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      if (signal?.aborted) return reject(signal.reason)
      const timer = this.timer(ms, () => {
        signal?.removeEventListener('abort', abort)
        resolve()
      })
      const abort = () => {
        timer[Symbol.dispose]()
        reject(signal?.reason)
      }
      signal?.addEventListener('abort', abort, { once: true })
    })
  }

  timer(ms: number, callback: () => void): Disposable {
    if (!this.#life.isAlive) return { [Symbol.dispose]: () => undefined }
    return this.#time.after(ms, () => {
      if (this.#life.isAlive) callback()
    })
  }
}
