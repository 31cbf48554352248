// The end of an operation: recorded, on the disk, and only then told.

import type { Clock } from '../../lib/clock.ts'
import type { Logger } from '../../lib/log.ts'
import type { CommandResult } from '../../protocol/command.ts'
import type { AgentMessage } from '../../protocol/messages.ts'
import { recordRetryMs } from './engine.ts'
import type { CommandTrail } from './gate.ts'
import type { Journal, JournalEntry } from './journal.ts'
import type { LocalOperations } from './local.ts'
import { resultOf } from './result.ts'
import type { Outcome } from './verb.ts'

export interface EndingsOptions {
  readonly journal: Pick<Journal, 'find' | 'finish' | 'durable'>
  readonly clock: Clock
  readonly log: Logger
  readonly trail: CommandTrail
  readonly local: LocalOperations
  readonly stop: AbortSignal
  emit(message: AgentMessage): void
  /** See the dispatcher. */
  onEnd?(entry: JournalEntry, result: CommandResult): void
}

export class Endings {
  readonly #options: EndingsOptions

  constructor(options: EndingsOptions) {
    this.#options = options
  }

  /** However long the disk refuses. Rejects only when the agent stops. */
  async record(entry: JournalEntry, outcome: Outcome): Promise<void> {
    const { clock, log, stop } = this.#options
    const finishedAt = clock.now()
    for (;;) {
      try {
        return await this.#try(entry, outcome, finishedAt)
      } catch (error) {
        const fields = { command: entry.id, verb: entry.claims.verb, vm: entry.claims.subject?.vm, error }
        log.error(fields, 'result could not be recorded, trying again')
        await clock.sleep(recordRetryMs, stop)
      }
    }
  }

  async #try(entry: JournalEntry, outcome: Outcome, finishedAt: number): Promise<void> {
    const { journal, trail, local, emit, onEnd } = this.#options
    const startedAt = journal.find(entry.id)?.startedAt
    const result = resultOf({ id: entry.id, startedAt }, outcome, finishedAt)
    await trail.note({ kind: 'ended', claims: entry.claims, result })
    journal.finish(result, () => onEnd?.(entry, result))
    await journal.durable()
    local.end(result)
    if (entry.origin === 'command') emit({ type: 'result', result })
  }
}
