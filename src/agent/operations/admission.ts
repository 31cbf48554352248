// Whether an operation may be recorded: no newer one of its VM is known, and its verb sees nothing that makes it impossible.

import { asHostletError } from '../../errors.ts'
import type { Clock } from '../../lib/clock.ts'
import { startDeadline } from '../../lib/deadline.ts'
import type { Logger } from '../../lib/log.ts'
import type { CommandClaims, CommandSubject } from '../../protocol/command.ts'
import type { GatePass } from './gate.ts'
import { type Journal, staleCommand } from './journal.ts'
import { notThereYet } from './refusals.ts'
import type { PreparedCommand } from './verb-table.ts'

/** How long a verb may take to see that something is impossible. */
export const checkDeadlineMs = 15_000

export interface AdmissionOptions<Host> {
  readonly host: Host
  readonly journal: Pick<Journal, 'generationOf' | 'refuseForgotten'>
  /** The generation that the VM's own metadata tell, 0 when there is no such VM. */
  generationOf(subject: CommandSubject, signal: AbortSignal): Promise<number>
  /** The id of an operation on the VM that has not ended. */
  operationOn(vm: string): string | undefined
  readonly clock: Clock
  readonly log: Logger
  readonly stop: AbortSignal
}

export class Admission<Host> {
  readonly #options: AdmissionOptions<Host>

  constructor(options: AdmissionOptions<Host>) {
    this.#options = options
  }

  /** Throws why it may not be. What the agent does by itself (`local`) overtakes nothing: its generation is not looked at. */
  async check(
    prepared: PreparedCommand<Host>,
    claims: CommandClaims,
    { local }: { local: boolean }
  ): Promise<void> {
    const { clock, stop: signal } = this.#options
    const what = `the check of ${claims.verb}`
    using deadline = startDeadline({ clock, ms: checkDeadlineMs, what, signal })
    if (!local) await this.#checkAge(claims, deadline.signal)
    // Before the look: an operation that ends meanwhile may have made what the look did not find.
    const ahead = claims.subject && this.#options.operationOn(claims.subject.vm)
    try {
      await this.#checkVerb(prepared, claims, deadline.signal)
    } catch (thrown) {
      const error = asHostletError(thrown)
      if (claims.subject === undefined || ahead === undefined || error.code !== 'E_NOT_FOUND') throw error
      throw notThereYet(claims.subject.vm, ahead, error)
    }
    deadline.signal.throwIfAborted()
  }

  /** The journal has the last word, in the transaction that records; the host knows what a lost journal knew. */
  async #checkAge(claims: CommandClaims, signal: AbortSignal): Promise<void> {
    this.#options.journal.refuseForgotten(claims)
    const { subject } = claims
    if (subject === undefined) return
    const recorded = this.#options.journal.generationOf(subject.uuid) ?? 0
    if (recorded >= subject.generation) throw staleCommand(subject, recorded)
    const known = await this.#options.generationOf(subject, signal)
    if (known >= subject.generation) throw staleCommand(subject, known)
  }

  async #checkVerb(
    { verb, params }: PreparedCommand<Host>,
    claims: CommandClaims,
    signal: AbortSignal
  ): Promise<void> {
    await verb.check?.(params, this.#options.host, {
      id: claims.id,
      verb: claims.verb,
      subject: claims.subject,
      signal,
      log: this.#options.log.child({ command: claims.id, verb: claims.verb }),
      notes: {},
      progress: () => undefined
    })
  }
}

/**
 * Begins what the gate has let through, and takes back what that put down where it is refused after all. `begin` throws
 * only where the command will never be carried out.
 */
export async function passing(pass: GatePass | undefined, begin: () => Promise<void>): Promise<void> {
  try {
    await begin()
  } catch (error) {
    await pass?.withdraw()
    throw error
  }
}
