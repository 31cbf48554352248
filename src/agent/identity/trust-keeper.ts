// Adopts trust statements as they come, and writes down each before the host goes by it.

import { asHostletError, type HostletError } from '../../errors.ts'
import type { Logger } from '../../lib/log.ts'
import type { AgentMessageOf } from '../../protocol/messages.ts'
import { type Identity, saveIdentity } from './identity.ts'
import { adopt, serialOf } from './trust.ts'

/** The identity that trust statements and renewals replace while the agent runs. */
export interface CurrentIdentity {
  value: Identity
}

export interface TrustKeeperOptions {
  readonly identity: CurrentIdentity
  readonly stateDirectory: string
  readonly log: Logger
  /** Called after each change. */
  onAdopted(): void
}

export class TrustKeeper {
  readonly #options: TrustKeeperOptions
  #fault: HostletError | undefined

  constructor(options: TrustKeeperOptions) {
    this.#options = options
  }

  get serial(): number {
    return serialOf(this.#options.identity.value)
  }

  /** Why the last statement that came is not in force. */
  get fault(): string | undefined {
    return this.#fault?.message
  }

  /** Adopts them one after the other. Never throws. */
  take(statements: readonly string[]): AgentMessageOf<'trust-ack'> {
    this.#fault = this.#adoptAll(statements)
    if (this.#fault !== undefined)
      this.#options.log.error({ error: this.#fault, serial: this.serial }, 'trust statement not adopted')
    return {
      type: 'trust-ack',
      serial: this.serial,
      ...(this.#fault !== undefined && { fault: this.#fault.toReport() })
    }
  }

  /** Why the last one is not in force, if it is not. What follows one that could not be adopted rests upon it. */
  #adoptAll(statements: readonly string[]): HostletError | undefined {
    for (const [index, statement] of statements.entries()) {
      try {
        this.#adopt(statement)
      } catch (thrown) {
        const error = asHostletError(thrown)
        // A chain may begin with what is known already.
        if (error.code !== 'E_STALE' || index === statements.length - 1) return error
      }
    }
    return undefined
  }

  #adopt(statement: string): void {
    const { identity, stateDirectory, log, onAdopted } = this.#options
    const adopted = adopt(identity.value, statement)
    if (adopted === identity.value) return
    saveIdentity(stateDirectory, adopted)
    identity.value = adopted
    const keys = adopted.commandKeys.map(({ kid }) => kid).join(' ')
    log.info({ serial: this.serial, commandKeys: keys }, 'trust statement adopted')
    onAdopted()
  }
}
