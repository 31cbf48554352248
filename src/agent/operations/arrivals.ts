// The order of commands: checked side by side, let in as they came, and those of one VM one after the other until each is recorded.

import { KeyedLock } from '../../lib/keyed-lock.ts'
import type { CommandClaims } from '../../protocol/command.ts'
import { noMore } from './refusals.ts'

/** Commands that are being looked at and neither refused nor recorded yet. */
export const receivingMax = 64

interface Arrival {
  readonly claims: Pick<CommandClaims, 'id' | 'subject'>
}

export interface Entered<Command> {
  readonly command: Command
  /** To be disposed of once the command is recorded or refused: the next one of its VM comes in then. */
  readonly turn: Promise<AsyncDisposable>
}

export class Arrivals {
  readonly #vms = new KeyedLock({ waitersMax: receivingMax })
  #last: Promise<unknown> = Promise.resolve()
  #received = 0

  /** A place among those that are looked at, given back when disposed of. Throws E_BUSY. */
  place(): Disposable {
    if (this.#received >= receivingMax) throw noMore()
    this.#received++
    return { [Symbol.dispose]: () => void this.#received-- }
  }

  /**
   * Resolves once all that came before has been checked, with the command. Without this a later command of a VM whose check is
   * quicker would overtake an earlier one, which is then refused as out of date. Rejects as the check does.
   */
  async enter<Command extends Arrival>(
    checked: Promise<Command>,
    signal: AbortSignal
  ): Promise<Entered<Command>> {
    // Awaited below, which may be after it has failed.
    checked.catch(() => undefined)
    const entered = this.#last.then(async () => {
      const command = await checked
      const { id, subject } = command.claims
      return { command, turn: this.#vms.acquire(subject?.uuid ?? id, signal) }
    })
    this.#last = entered.catch(() => undefined)
    return await entered
  }
}
