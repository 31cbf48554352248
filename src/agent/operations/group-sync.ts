// Waiting for the disk together: one sync at a time, and whoever asks while it runs shares the next one.

import { asHostletError, HostletError } from '../../errors.ts'

export interface GroupSyncOptions {
  /** Waits until all that was written before the call is on the disk. */
  sync(): Promise<void>
  /** Called once, with why what was written may be lost. */
  onFault(error: HostletError): void
}

/** Who goes on in one turn of the event loop: a hundred that go on at once keep it longer than a slow disk. */
const wokenAtOnce = 4

interface Waiter {
  readonly target: number
  resolve(): void
  reject(reason: unknown): void
}

/**
 * A commit in WAL mode is a write to the page cache; the disk takes milliseconds. This counts the writes and tells when the
 * disk has them, without keeping the event loop: a hundred operations that wait cost one sync.
 */
export class GroupSync {
  readonly #options: GroupSyncOptions
  #written = 0
  #synced = 0
  readonly #waiting: Waiter[] = []
  #running: Promise<void> | undefined
  #isWaking = false
  #fault: HostletError | undefined

  constructor(options: GroupSyncOptions) {
    this.#options = options
  }

  /**
   * Why nothing that was written since the last sync can be trusted. The kernel tells of pages that it could not write once, and
   * may drop them: another sync would end well and mean nothing.
   */
  get fault(): HostletError | undefined {
    return this.#fault
  }

  /** The sync that runs; what it uses must not be closed before it ends. */
  get running(): Promise<void> | undefined {
    return this.#running
  }

  /** Whether the disk has all that was written. */
  get isSettled(): boolean {
    return this.#fault === undefined && this.#synced === this.#written
  }

  /** Something was written that the disk may not have. */
  noteWritten(): void {
    this.#written++
  }

  /** All of it was synced by somebody else. */
  noteSynced(): void {
    this.#synced = this.#written
  }

  /**
   * Resolves when the disk has all that was written before the call: at the end of a sync that began after it. Rejects with
   * the fault, then and ever after, when a sync failed.
   */
  settled(): Promise<void> {
    if (this.#fault !== undefined) return Promise.reject(this.#fault)
    const target = this.#written
    if (this.#synced >= target) return Promise.resolve()
    const { promise, resolve, reject } = Promise.withResolvers<void>()
    this.#waiting.push({ target, resolve, reject })
    this.#begin()
    return promise
  }

  /** A sync failed elsewhere. */
  fail(cause: unknown): void {
    if (this.#fault !== undefined) return
    this.#fault = suspect(cause)
    for (const { reject } of this.#waiting.splice(0)) reject(this.#fault)
    this.#options.onFault(this.#fault)
  }

  #begin(): void {
    this.#running ??= this.#sync()
  }

  async #sync(): Promise<void> {
    const covered = this.#written
    try {
      await this.#options.sync()
      this.#synced = Math.max(this.#synced, covered)
    } catch (cause) {
      this.fail(cause)
    }
    this.#running = undefined
    if (this.#fault === undefined) this.#wake()
  }

  /** In the order of coming, a few in a turn of the event loop: each goes on with work of its own. */
  #wake(): void {
    const ready = this.#waiting.findIndex(({ target }) => target > this.#synced)
    const count = Math.min(wokenAtOnce, ready === -1 ? this.#waiting.length : ready)
    if (ready !== -1) this.#begin()
    for (const { resolve } of this.#waiting.splice(0, count)) resolve()
    if (count === wokenAtOnce && !this.#isWaking) {
      this.#isWaking = true
      setImmediate(() => {
        this.#isWaking = false
        this.#wake()
      })
    }
  }
}

function suspect(cause: unknown): HostletError {
  const { message } = asHostletError(cause)
  return new HostletError(
    'E_UNAVAILABLE',
    `the disk of the state directory did not take what was written to the journal: ${message}. The agent takes nothing more and starts anew from what the disk has; VMs run on. See the kernel log.`,
    { cause, details: { reason: 'journal-suspect' } }
  )
}
