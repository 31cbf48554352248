// Whose turn it is: the operations that run or wait, what each has to itself, and the means to end one before its time.

import { KeyedLock } from '../../lib/keyed-lock.ts'
import type { Ticket } from '../../lib/limiter.ts'
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
}

/** What an operation is, for its turn. */
export interface Entering {
  readonly id: string
  readonly verb: LockRules & { readonly cancellable?: boolean }
  readonly claims: Parameters<typeof lockKeysOf>[1]
  readonly params: unknown
}

export class Turns {
  readonly #locks = new KeyedLock()
  readonly #entered = new Map<string, Entered>()

  /** From now on it can be aborted. Dispose of it when the operation has ended. */
  enter({ id, verb, claims, params }: Entering): Turn & Disposable {
    const controller = new AbortController()
    const keys = lockKeysOf(verb, claims, params)
    const turn = { id, keys, cancellable: verb.cancellable === true, cancel: controller.signal }
    this.#entered.set(id, { ...turn, controller })
    return { ...turn, [Symbol.dispose]: () => void this.#entered.delete(id) }
  }

  /** Its locks, and then its place. Rejects with the signal's reason when aborted. */
  async take(
    { id, keys }: Turn,
    ticket: Pick<Ticket, 'turn'>,
    { signal, endOthers }: { signal: AbortSignal; endOthers?: ((id: string) => void) | undefined }
  ): Promise<AsyncDisposable> {
    await using stack = new AsyncDisposableStack()
    for (const [index, key] of keys.entries()) {
      if (index > 0 && endOthers !== undefined) for (const other of this.#inTheWay(key, id)) endOthers(other)
      stack.use(await this.#locks.acquire(key, signal))
    }
    await ticket.turn(signal)
    return stack.move()
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
