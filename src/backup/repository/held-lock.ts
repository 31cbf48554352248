// A lock that is held: renewed in time, given up before others may take it, dropped when it was taken all the same.

import { HostletError } from '../../errors.ts'
import type { Clock } from '../../lib/clock.ts'
import { startDeadline } from '../../lib/deadline.ts'
import { cleanUpMsMax, holdMs, type OwnLease, renewEveryMs } from './lease.ts'
import type { RepositoryLock } from './lock.ts'

/** After a renewal that failed. */
const retryMs = 2_000
const confirmMsMax = 30_000

export class HeldLock implements RepositoryLock {
  readonly #own: OwnLease
  readonly #clock: Clock
  readonly #lost = new AbortController()
  /** Ends renewals when released. */
  readonly #stop = new AbortController()
  #timer: Disposable | undefined
  #watchdog: Disposable | undefined
  #renewing: Promise<void> = Promise.resolve()
  /** Monotonic time from before the last write that is known to have succeeded. */
  #writtenAt: number

  private constructor(own: OwnLease, clock: Clock, writtenAt: number) {
    this.#own = own
    this.#clock = clock
    this.#writtenAt = writtenAt
  }

  /** Takes over a claim that has seen nobody else, written at the time. */
  static async start(own: OwnLease, { clock, writtenAt }: { clock: Clock; writtenAt: number }) {
    const lock = new HeldLock(own, clock, writtenAt)
    lock.#watch()
    await lock.#renewOnce()
    return lock
  }

  get signal(): AbortSignal {
    return this.#lost.signal
  }

  async confirm(): Promise<void> {
    this.#lost.signal.throwIfAborted()
    const { signal } = this.#lost
    using deadline = startDeadline({
      clock: this.#clock,
      ms: confirmMsMax,
      what: 'looking at the lock',
      signal
    })
    await this.#mustBeOurs(deadline.signal)
    this.#mustBeInTime()
  }

  async release(): Promise<void> {
    if (this.#stop.signal.aborted) return
    this.#stop.abort(new HostletError('E_CANCELLED', 'the lock was released'))
    this.#timer?.[Symbol.dispose]()
    this.#watchdog?.[Symbol.dispose]()
    using deadline = startDeadline({ clock: this.#clock, ms: cleanUpMsMax, what: 'the last renewal' })
    // A renewal that is under way would write the lease again after it was removed.
    await Promise.race([this.#renewing, aborted(deadline.signal)])
    await this.#own.remove()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.release()
  }

  #schedule(ms: number): void {
    if (this.#stop.signal.aborted || this.#lost.signal.aborted) return
    this.#timer = this.#clock.timer(ms, () => {
      this.#renewing = this.#renewOnce()
    })
  }

  /** Throws nothing: what goes wrong is tried again until the watchdog ends it. */
  async #renewOnce(): Promise<void> {
    const signal = AbortSignal.any([this.#stop.signal, this.#lost.signal])
    const startedAt = this.#clock.monotonic()
    try {
      await this.#mustBeOurs(signal)
      await this.#own.write('held', signal)
      // A write that took too long may have come after another had taken over.
      this.#mustBeInTime()
      this.#writtenAt = startedAt
      this.#watch()
      this.#schedule(renewEveryMs)
    } catch (error) {
      if (error instanceof HostletError && error.code === 'E_CONFLICT') this.#lose(error)
      this.#schedule(retryMs)
    }
  }

  async #mustBeOurs(signal: AbortSignal): Promise<void> {
    const others = await this.#own.others(signal)
    const taker = others?.find(({ lease }) => lease?.phase === 'held')
    if (others !== undefined && taker === undefined) return
    const by = taker?.lease?.host
    throw new HostletError(
      'E_CONFLICT',
      `the lock ${this.#own.name} was taken over${by === undefined ? '' : ` by host ${by}`}: this process was away for too long. Start again.`,
      { details: { lock: this.#own.name } }
    )
  }

  #mustBeInTime(): void {
    if (this.#clock.monotonic() - this.#writtenAt >= holdMs) throw this.#tooLate()
  }

  /** Set anew at each renewal, and independent of requests that hang. */
  #watch(): void {
    this.#watchdog?.[Symbol.dispose]()
    const leftMs = Math.max(0, holdMs - (this.#clock.monotonic() - this.#writtenAt))
    this.#watchdog = this.#clock.timer(leftMs, () => this.#lose(this.#tooLate()))
  }

  #tooLate(): HostletError {
    return new HostletError(
      'E_CONFLICT',
      `the lock ${this.#own.name} could not be renewed for ${holdMs / 1_000} s, so another may take it. Look at the repository's service or mount.`,
      { details: { lock: this.#own.name } }
    )
  }

  #lose(error: HostletError): void {
    this.#watchdog?.[Symbol.dispose]()
    this.#timer?.[Symbol.dispose]()
    this.#lost.abort(error)
  }
}

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }))
}
