// Commands that were refused for good, for as long as the agent runs.

import { errorCodes, type HostletError } from '../../errors.ts'
import { approvalReason } from '../../protocol/approval.ts'
import type { SignedCommand } from './gate.ts'
import { nothingHappened } from './refusals.ts'

/** Commands whose refusal is remembered; the oldest go first. */
const rememberedMax = 1_024

/**
 * What was refused for good stays so. A command may come twice, over a connection that is gone and over the next one; the
 * scheduler ends it with the refusal of one, and the other must not be taken because things have changed meanwhile.
 */
export class RefusedCommands {
  readonly #errors = new Map<string, HostletError>()

  /** Throws what the command was refused with before, or what it is refused with now. */
  async guard(command: SignedCommand, take: () => Promise<void>): Promise<void> {
    const error = this.#errors.get(keyOf(command))
    if (error !== undefined) throw error
    await take().catch((thrown) => {
      this.#note(command, nothingHappened(thrown))
      throw thrown
    })
  }

  #note(command: SignedCommand, error: HostletError): void {
    if (errorCodes[error.code].advice === 'retry' || error.details.reason === approvalReason) return
    this.#errors.set(keyOf(command), error)
    const [oldest] = this.#errors.keys()
    if (this.#errors.size > rememberedMax && oldest !== undefined) this.#errors.delete(oldest)
  }
}

function keyOf({ claims, digest }: SignedCommand): string {
  return `${claims.id} ${digest}`
}
