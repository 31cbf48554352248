// What the scheduler does by itself: ends overdue commands, forgets what is beyond its bounds, renews its certificate, warns of keys that end.

import { asHostletError } from '../errors.ts'
import type { Clock } from '../lib/clock.ts'
import type { Logger } from '../lib/log.ts'
import { endOfOverdue } from './consequences.ts'
import type { Store } from './store/store.ts'

export const overdueIntervalMs = 1_000
export const pruneIntervalMs = 60_000
export const certificateIntervalMs = 6 * 3_600_000
export const keyWarningIntervalMs = 12 * 3_600_000

export interface HousekeepingOptions {
  readonly store: Store
  readonly clock: Clock
  readonly log: Logger
  readonly abandonAfterMs: number
  /** How long before its end a key is warned of; without it none is. */
  readonly keyWarningMs?: number
  /** Replaces the server certificate when it is old. */
  renewCertificate(): Promise<void>
}

export class Housekeeping implements AsyncDisposable {
  readonly #options: HousekeepingOptions
  readonly #timers = new Map<string, Disposable>()
  readonly #running = new Set<Promise<void>>()
  #isOpen = true

  constructor(options: HousekeepingOptions) {
    this.#options = options
    this.#every(overdueIntervalMs, 'end overdue commands', () => this.#endOverdue())
    this.#every(pruneIntervalMs, 'forget what is beyond the bounds', () => this.#prune())
    this.#every(certificateIntervalMs, 'renew the server certificate', () => options.renewCertificate())
    const { keyWarningMs } = options
    if (keyWarningMs !== undefined)
      this.#every(keyWarningIntervalMs, 'warn of keys that end', () => this.#warnOfKeys(keyWarningMs))
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#isOpen = false
    for (const timer of this.#timers.values()) timer[Symbol.dispose]()
    await Promise.all(this.#running)
  }

  /** The next round begins when the one before has ended. */
  #every(ms: number, task: string, work: () => Promise<void>): void {
    if (!this.#isOpen) return
    const round = async () => {
      try {
        await work()
      } catch (thrown) {
        this.#options.log.error(
          { task, error: asHostletError(thrown) },
          'housekeeping failed, the next round tries again'
        )
      }
      this.#every(ms, task, work)
    }
    this.#timers.set(
      task,
      this.#options.clock.timer(ms, () => {
        const running = round().finally(() => this.#running.delete(running))
        this.#running.add(running)
      })
    )
  }

  async #endOverdue(): Promise<void> {
    const { store, clock, log, abandonAfterMs } = this.#options
    for (const record of await store.commands.overdue(clock.now(), abandonAfterMs)) {
      const { error, consequence } = endOfOverdue(record)
      if (await store.commands.expired(record, error, clock.now(), consequence))
        log.warn(
          { command: record.id, host: record.host, vm: record.vm, code: error.code },
          'command expired'
        )
    }
  }

  async #warnOfKeys(keyWarningMs: number): Promise<void> {
    const { store, clock, log } = this.#options
    const now = clock.now()
    for (const { id, note, owner, expiresAt } of await store.keys.endingBetween(now, now + keyWarningMs))
      log.warn({ key: id, note, owner, expiresAt }, 'API key ends soon')
  }

  async #prune(): Promise<void> {
    const rows = await this.#options.store.prune(this.#options.clock.now())
    if (rows > 0) this.#options.log.debug({ rows }, 'old records forgotten')
  }
}
