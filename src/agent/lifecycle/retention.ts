// Erases VMs whose time of being kept is over, whether or not anybody is connected.

import { asHostletError } from '../../errors.ts'
import type { Clock } from '../../lib/clock.ts'
import { startDeadline } from '../../lib/deadline.ts'
import type { Logger } from '../../lib/log.ts'
import type { OwnOperations } from '../backups/schedule.ts'
import type { VmRecord, Wait } from '../host/hypervisor.ts'

export const eraseVerb = 'vm.erase'
/** Longest time without a look at the clock, while VMs are kept: how late a step of the wall clock is noticed. */
export const tickMs = 60_000
/** Between tries to erase one VM. */
export const retryMs = 300_000
const lookMs = 30_000

export interface RetentionOptions {
  /** VMs of this host, as the hypervisor knows them. */
  vms(wait: Wait): Promise<readonly VmRecord[]>
  readonly readiness: { isReady(): boolean }
  readonly operations: OwnOperations
  readonly clock: Clock
  readonly log: Logger
}

interface Kept {
  readonly name: string
  readonly uuid: string
  readonly generation: number
  readonly until: number
}

export class Retention implements AsyncDisposable {
  readonly #options: RetentionOptions
  readonly #stopping = new AbortController()
  readonly #erasing = new Map<string, Promise<void>>()
  /** By UUID: not tried again before, on the monotonic clock. */
  readonly #postponed = new Map<string, number>()
  #kept: readonly Kept[] = []
  #loop: Promise<void> = Promise.resolve()
  #poke = new AbortController()
  #stale = true

  constructor(options: RetentionOptions) {
    this.#options = options
  }

  /** Call once, after the dispatcher has resumed what was left: an erase among it is not begun again. */
  begin(): void {
    for (const { verb, subject, ended } of this.#options.operations.localOperations())
      if (verb === eraseVerb && subject !== undefined) this.#own(subject, ended)
    this.#loop = this.#run()
  }

  /** VMs may have changed, or the hypervisor is back. */
  refresh(): void {
    this.#stale = true
    this.#poke.abort()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stopping.abort(new Error('the agent stops'))
    await Promise.allSettled([this.#loop, ...this.#erasing.values()])
  }

  async #run(): Promise<void> {
    const { signal } = this.#stopping
    while (!signal.aborted) {
      this.#poke = new AbortController()
      await this.#turn()
      await this.#pause()
    }
  }

  async #turn(): Promise<void> {
    const { readiness, log } = this.#options
    if (!readiness.isReady()) return
    try {
      if (this.#stale) await this.#look()
      for (const vm of this.#kept) if (this.#waitMs(vm) <= 0) await this.#erase(vm)
    } catch (error) {
      if (!this.#stopping.signal.aborted)
        log.warn({ error: asHostletError(error) }, 'VMs that are kept could not be looked at')
    }
  }

  /** Until the next is due, something has changed, or it is time to look at the clock. */
  async #pause(): Promise<void> {
    const { clock, readiness } = this.#options
    const signal = AbortSignal.any([this.#stopping.signal, this.#poke.signal])
    if (signal.aborted) return
    const waits = this.#kept.map((vm) => this.#waitMs(vm)).filter((ms) => ms !== Number.POSITIVE_INFINITY)
    const failed = this.#stale && readiness.isReady()
    const ms = waits.length === 0 && !failed ? tickMs * 60 : Math.max(1_000, Math.min(tickMs, ...waits))
    await clock.sleep(ms, signal).catch(() => undefined)
  }

  async #look(): Promise<void> {
    const { clock, vms } = this.#options
    using deadline = startDeadline({
      clock,
      ms: lookMs,
      what: 'the look at VMs that are kept',
      signal: this.#stopping.signal
    })
    this.#stale = false
    try {
      this.#kept = (await vms({ signal: deadline.signal })).flatMap(keptVm)
    } catch (error) {
      this.#stale = true
      throw error
    }
  }

  #waitMs({ uuid, until }: Kept): number {
    const { clock } = this.#options
    if (this.#erasing.has(uuid)) return Number.POSITIVE_INFINITY
    const postponed = (this.#postponed.get(uuid) ?? Number.NEGATIVE_INFINITY) - clock.monotonic()
    return Math.max(until - clock.now(), postponed)
  }

  async #erase({ name: vm, uuid, generation, until }: Kept): Promise<void> {
    const { operations, log } = this.#options
    const subject = { vm, uuid, generation }
    log.info({ vm, uuid, until }, 'the time of a VM that was kept is over: it is erased')
    try {
      const { ended } = await operations.begin({ verb: eraseVerb, subject, arguments: { vm } })
      this.#own(subject, ended)
    } catch (error) {
      if (this.#stopping.signal.aborted) return
      this.#postpone(uuid)
      log.warn({ vm, error: asHostletError(error), retryMs }, 'it could not be erased, trying again')
    }
  }

  /** Sees one erase to its end. What failed is tried again later; somebody may have had the VM back. */
  #own(
    { vm, uuid }: { vm: string; uuid: string },
    ended: Promise<{ outcome: string; error?: unknown }>
  ): void {
    const owned = ended
      .then(({ outcome, error }) => {
        if (outcome === 'done') return
        this.#postpone(uuid)
        this.#options.log.error(
          { vm, error, retryMs },
          'a VM that was kept could not be erased, trying again'
        )
      })
      // The agent stops; the next one resumes it.
      .catch(() => undefined)
      .finally(() => {
        this.#erasing.delete(uuid)
        this.refresh()
      })
    this.#erasing.set(uuid, owned)
  }

  #postpone(uuid: string): void {
    this.#postponed.set(uuid, this.#options.clock.monotonic() + retryMs)
  }
}

function keptVm({ specification: { name, uuid }, generation, retained }: VmRecord): Kept[] {
  return retained === undefined ? [] : [{ name, uuid, generation, until: retained.until }]
}
