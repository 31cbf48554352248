// What the dispatcher is given: the host, its verbs, where commands are kept, and who is told of what becomes of them.

import type { Clock } from '../../lib/clock.ts'
import type { Logger } from '../../lib/log.ts'
import type { CommandResult, CommandSubject } from '../../protocol/command.ts'
import type { AgentMessage } from '../../protocol/messages.ts'
import type { CommandVerifier } from './command-verifier.ts'
import type { HostReadiness } from './engine.ts'
import type { CommandGate, CommandTrail } from './gate.ts'
import type { Journal, JournalEntry } from './journal.ts'
import type { Turns } from './turns.ts'
import type { Verb } from './verb.ts'

export interface DispatcherOptions<Host> {
  readonly host: Host
  readonly verbs: readonly Verb<Host>[]
  readonly journal: Journal
  readonly verifier: CommandVerifier
  readonly readiness: HostReadiness
  readonly gate?: CommandGate
  readonly trail?: CommandTrail
  /** The generation that the VM's own metadata tell, 0 when there is no such VM. */
  generationOf(subject: CommandSubject, signal: AbortSignal): Promise<number>
  /** Sends to the scheduler, or drops when it is away: results are taken up again from `unacknowledged`. */
  emit(message: AgentMessage): void
  /** An operation that changes VMs has ended, well or not. */
  onChanged?(): void
  /** The host takes no new work from now on, or takes it again. */
  onDrain?(): void
  readonly clock: Clock
  readonly log: Logger
  /**
   * An operation has ended: called within the transaction that records it, so that what is written here is recorded with
   * it or not at all. The arguments are still in the entry.
   */
  onEnd?(entry: JournalEntry, result: CommandResult): void
  /** Places of the lane `work`, and of `transfer`; as many may wait for each. */
  readonly concurrencyMax: number
  readonly transfersMax?: number
  readonly waitingMax: number
  readonly random?: () => number
  /** Where something besides operations needs VMs to itself. */
  readonly turns?: Turns
}
