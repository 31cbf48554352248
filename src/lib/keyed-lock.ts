// One holder a key, in the order of asking: what serialises operations on one VM.

import { HostletError } from '../errors.ts'

interface Waiter {
  grant(): void
}

export class KeyedLock {
  readonly #queues = new Map<string, Waiter[]>()
  readonly #waitersMax: number

  /** `waitersMax` bounds how many may wait for one key; more are refused with E_BUSY. */
  constructor({ waitersMax = 1_024 }: { waitersMax?: number } = {}) {
    this.#waitersMax = waitersMax
  }

  /** Waits for the key; dispose of what is returned to let the next one in. Rejects with the signal's reason when aborted. */
  async acquire(key: string, signal?: AbortSignal): Promise<AsyncDisposable> {
    signal?.throwIfAborted()
    const queue = this.#queues.get(key)
    if (queue === undefined) {
      this.#queues.set(key, [])
      return this.#held(key)
    }
    if (queue.length >= this.#waitersMax)
      throw new HostletError('E_BUSY', `${queue.length} operations wait for ${key} already. Try again later.`)
    await this.#turn(queue, signal)
    return this.#held(key)
  }

  /** Whether somebody holds the key. */
  isHeld(key: string): boolean {
    return this.#queues.has(key)
  }

  #turn(queue: Waiter[], signal: AbortSignal | undefined): Promise<void> {
    return new Promise((resolve, reject) => {
      const waiter: Waiter = {
        grant: () => {
          signal?.removeEventListener('abort', leave)
          resolve()
        }
      }
      const leave = () => {
        queue.splice(queue.indexOf(waiter), 1)
        reject(signal?.reason)
      }
      signal?.addEventListener('abort', leave, { once: true })
      queue.push(waiter)
    })
  }

  #held(key: string): AsyncDisposable {
    let released = false
    return {
      [Symbol.asyncDispose]: async () => {
        if (released) return
        released = true
        this.#release(key)
      }
    }
  }

  #release(key: string): void {
    const next = this.#queues.get(key)?.shift()
    if (next === undefined) this.#queues.delete(key)
    else next.grant()
  }
}
