// A fixed number of things to take and give back: buffers, or places. Who finds none waits, in order, until one comes back.

export class Stock<Item> {
  readonly #items: Item[]
  readonly #waiting: { resolve(item: Item): void; reject(reason: unknown): void }[] = []
  readonly #signal: AbortSignal

  /** Once the signal is aborted everyone who waits or asks is turned away with its reason. */
  constructor(items: readonly Item[], signal: AbortSignal) {
    this.#items = [...items]
    this.#signal = signal
    signal.addEventListener('abort', () => {
      for (const { reject } of this.#waiting.splice(0)) reject(signal.reason)
    })
  }

  async take(): Promise<Item> {
    this.#signal.throwIfAborted()
    if (this.#items.length > 0) return this.#items.pop() as Item
    return new Promise((resolve, reject) => this.#waiting.push({ resolve, reject }))
  }

  give(item: Item): void {
    const next = this.#waiting.shift()
    if (next === undefined) this.#items.push(item)
    else next.resolve(item)
  }
}
