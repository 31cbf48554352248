// Whose turn it is: the operations that run or wait, what each has to itself, and the means to end one before its time.

import type { Clock } from '../../lib/clock.ts'
import { systemClock } from '../../lib/clock.ts'
import { KeyedLock } from '../../lib/keyed-lock.ts'
import type { Ticket } from '../../lib/limiter.ts'
import type { StepReport } from './engine.ts'
import { type PlaceInLine, Standing, type StepTrouble } from './standing.ts'
import { type LockRules, lockKeysOf } from './verb-table.ts'

export interface Turn {
  readonly id: string
  /** Locks in the order of their taking, which is the same for all operations. */
  readonly keys: readonly string[]
  readonly cancellable: boolean
  /** Aborted to end the operation before its time. */
  readonly cancel: AbortSignal
}

interface Entered extends Turn {
  readonly controller: AbortController
  readonly standing: Standing
}

/** What an operation is, for its turn. */
export interface Entering {
  readonly id: string
  readonly verb: LockRules & { readonly name?: string; readonly cancellable?: boolean }
  readonly claims: Parameters<typeof lockKeysOf>[1]
  readonly params: unknown
}

export class Turns {
  readonly #locks = new KeyedLock()
  readonly #entered = new Map<string, Entered>()
  readonly #clock: Pick<Clock, 'now'>
  #waits = 0

  constructor(clock: Pick<Clock, 'now'> = systemClock) {
    this.#clock = clock
  }

  /** From now on it can be aborted. Dispose of it when the operation has ended. */
  enter({ id, verb, claims, params }: Entering): Turn & Disposable {
    const controller = new AbortController()
    const keys = lockKeysOf(verb, claims, params)
    const turn = { id, keys, cancellable: verb.cancellable === true, cancel: controller.signal }
    const { subject } = claims
    const standing = { id, verb: verb.name ?? '', vm: subject?.vm, keys, since: this.#clock.now() }
    this.#entered.set(id, { ...turn, controller, standing: new Standing(standing) })
    return { ...turn, [Symbol.dispose]: () => void this.#entered.delete(id) }
  }

  /** Its locks, and then its place. Rejects with the signal's reason when aborted. */
  async take(
    { id, keys }: Turn,
    ticket: Pick<Ticket, 'turn'> & PlaceInLine,
    { signal, endOthers }: { signal: AbortSignal; endOthers?: ((id: string) => void) | undefined }
  ): Promise<AsyncDisposable> {
    await using stack = new AsyncDisposableStack()
    const standing = this.#entered.get(id)?.standing
    for (const [index, key] of keys.entries()) {
      if (index > 0 && endOthers !== undefined) for (const other of this.#inTheWay(key, id)) endOthers(other)
      if (standing) standing.lock = { key, number: this.#waits++ }
      stack.use(await this.#locks.acquire(key, signal))
      standing?.held.add(key)
    }
    this.#change(standing, ticket)
    await ticket.turn(signal)
    this.#change(standing, undefined)
    return stack.move()
  }

  /** Those that run or wait, in the order in which they came. */
  standings(): readonly Standing[] {
    return [...this.#entered.values()].map(({ standing }) => standing)
  }

  noteReport(id: string, report: StepReport): void {
    const standing = this.#entered.get(id)?.standing
    if (standing === undefined) return
    // A word about bytes alone does not take back what the step said before.
    const before = standing.report?.stepIndex === report.stepIndex ? standing.report : undefined
    standing.report = { ...before, ...report }
    if (before === undefined) standing.trouble = undefined
  }

  noteTrouble(id: string, trouble: Omit<StepTrouble, 'at'>): void {
    const standing = this.#entered.get(id)?.standing
    if (standing !== undefined) standing.trouble = { at: this.#clock.now(), ...trouble }
  }

  /** A VM to oneself, for what is no operation. Rejects with the signal's reason when aborted. */
  hold(vm: string, signal: AbortSignal): Promise<AsyncDisposable> {
    return this.#locks.acquire(vmKey(vm), signal)
  }

  /** The same at once; undefined when an operation has it. */
  tryHold(vm: string): Promise<AsyncDisposable> | undefined {
    const key = vmKey(vm)
    return this.#locks.isHeld(key) ? undefined : this.#locks.acquire(key)
  }

  /** The id of an operation that runs or waits with the VM for its first lock; undefined when there is none. */
  operationOn(vm: string): string | undefined {
    const key = vmKey(vm)
    return [...this.#entered.values()].find(({ keys }) => keys[0] === key)?.id
  }

  /** No effect on one that has ended. */
  abort(id: string, reason: unknown): void {
    this.#entered.get(id)?.controller.abort(reason)
  }

  #change(standing: Standing | undefined, place: PlaceInLine | undefined): void {
    if (standing === undefined) return
    standing.lock = undefined
    standing.place = place
    standing.since = this.#clock.now()
  }

  /** Operations for which the lock is the first. Those that have it second wait for the first one still. */
  #inTheWay(key: string, but: string): string[] {
    const others = [...this.#entered.values()].filter(
      ({ id, keys, cancellable }) => id !== but && cancellable && keys[0] === key
    )
    return others.map(({ id }) => id)
  }
}

function vmKey(vm: string): string {
  return `vm:${vm}`
}
