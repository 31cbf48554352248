// A host that takes no new work: remembered over restarts, and over only when somebody says so.

import { HostletError } from '../../errors.ts'
import type { Clock } from '../../lib/clock.ts'
import type { AgentDatabase } from './database.ts'
import type { DrainPort, Verb } from './verb.ts'

/** What a refusal says of when to come again: a drain takes minutes, and nobody knows how many. */
export const drainRetryAfterMs = 30_000
/** How often it is told what is waited for, beside each change. */
const tellMs = 5_000

export interface DrainOptions {
  readonly database: Pick<AgentDatabase, 'get' | 'run' | 'durable'>
  readonly clock: Pick<Clock, 'now' | 'timer'>
  /** Operations that run or wait, apart from those that wait for the others. */
  operations(): number
  /** It began, or is over. */
  onChanged?(): void
}

export class Drain implements DrainPort {
  readonly #options: DrainOptions
  readonly #listeners = new Set<() => void>()
  #since: number | undefined

  constructor(options: DrainOptions) {
    this.#options = options
    const row = options.database.get('SELECT since FROM host_drain')
    this.#since = row === undefined ? undefined : Number(row.since)
  }

  /** Undefined while the host takes work. */
  get since(): number | undefined {
    return this.#since
  }

  /** Throws E_UNAVAILABLE for work that is not taken now: anything that neither looks nor is urgent. */
  check({
    name,
    changes,
    lock,
    priority
  }: Pick<Verb<never>, 'name' | 'changes' | 'lock' | 'priority'>): void {
    if (this.#since === undefined || priority === 'urgent' || (!changes && lock === 'none')) return
    throw new HostletError(
      'E_UNAVAILABLE',
      `this host is being drained since ${new Date(this.#since).toISOString()} and begins no ${name}; its VMs run on. Have it take work again with "hostlet host resume".`,
      { details: { reason: 'draining', since: this.#since, retryAfterMs: drainRetryAfterMs } }
    )
  }

  async begin(): Promise<number> {
    const { database, clock, onChanged } = this.#options
    const since = this.#since ?? clock.now()
    database.run('INSERT INTO host_drain (id, since) VALUES (1, ?) ON CONFLICT (id) DO NOTHING', since)
    const isNew = this.#since === undefined
    this.#since = since
    await database.durable()
    if (isNew) onChanged?.()
    return since
  }

  async end(): Promise<boolean> {
    const { database, onChanged } = this.#options
    const wasDraining = database.run('DELETE FROM host_drain') > 0
    await database.durable()
    this.#since = undefined
    this.noteChange()
    if (wasDraining) onChanged?.()
    return wasDraining
  }

  /** An operation has ended. */
  noteChange(): void {
    for (const listener of [...this.#listeners]) listener()
  }

  untilIdle(signal: AbortSignal, onWaiting: (operations: number) => void): Promise<boolean> {
    const { clock } = this.#options
    return new Promise((resolve, reject) => {
      let timer: Disposable | undefined
      const settle = (end: () => void) => {
        timer?.[Symbol.dispose]()
        this.#listeners.delete(look)
        signal.removeEventListener('abort', abort)
        end()
      }
      const abort = () => settle(() => reject(signal.reason))
      const look = () => {
        const operations = this.#options.operations()
        if (this.#since === undefined) settle(() => resolve(false))
        else if (operations === 0) settle(() => resolve(true))
        else onWaiting(operations)
      }
      if (signal.aborted) return abort()
      const tellAgain = () => {
        timer = clock.timer(tellMs, () => {
          tellAgain()
          look()
        })
      }
      signal.addEventListener('abort', abort, { once: true })
      this.#listeners.add(look)
      tellAgain()
      look()
    })
  }
}
