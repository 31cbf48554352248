// Lets the first of many like notes through, counts the rest, and tells the count once the minute is over.

import type { Clock } from './clock.ts'

export interface FloodGateOptions {
  readonly clock: Pick<Clock, 'now' | 'timer'>
  /** Notes of one key within the window that pass. */
  readonly passMax: number
  readonly windowMs: number
  /** Keys that are watched at once; all others share one. */
  readonly keysMax: number
  /** What did not pass, by the end of its window. */
  onOver(held: Held): void
}

/** So many notes of this key were left out since then. */
export interface Held {
  readonly key: string
  readonly count: number
  readonly since: number
}

interface Window {
  readonly since: number
  passed: number
  held: number
}

const otherKeys = 'others'

export class FloodGate implements Disposable {
  readonly #options: FloodGateOptions
  readonly #windows = new Map<string, Window>()
  #timer: Disposable | undefined

  constructor(options: FloodGateOptions) {
    this.#options = options
  }

  /** False for one that is only counted. */
  pass(key: string): boolean {
    const window = this.#windowOf(key)
    if (window.passed >= this.#options.passMax) {
      window.held++
      return false
    }
    window.passed++
    return true
  }

  /** Tells of what was counted so far, and begins anew. */
  flush(): void {
    this.#timer?.[Symbol.dispose]()
    this.#timer = undefined
    const windows = [...this.#windows]
    this.#windows.clear()
    for (const [key, { held, since }] of windows)
      if (held > 0) this.#options.onOver({ key, count: held, since })
  }

  [Symbol.dispose](): void {
    this.flush()
  }

  #windowOf(key: string): Window {
    const { clock, keysMax, windowMs } = this.#options
    const name = this.#windows.has(key) || this.#windows.size < keysMax ? key : otherKeys
    const known = this.#windows.get(name)
    if (known !== undefined) return known
    const window = { since: clock.now(), passed: 0, held: 0 }
    this.#windows.set(name, window)
    this.#timer ??= clock.timer(windowMs, () => {
      this.#timer = undefined
      this.flush()
    })
    return window
  }
}
