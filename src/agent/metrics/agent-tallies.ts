// What the agent counts as it goes: operations that ended, connections to the scheduler, bytes of backups.

import type { Labels } from '../../lib/exposition.ts'
import { Tally, Timings } from '../../lib/tallies.ts'
import type { CommandResult } from '../../protocol/command.ts'
import type { JournalEntry } from '../operations/journal.ts'
import { agentMetrics } from './declarations.ts'

/** From a start of a VM to a full backup of a large one. */
const durationBounds = [0.1, 0.5, 1, 2, 5, 10, 30, 60, 300, 900, 3_600, 14_400]
/** An end that the disk refused comes again: so many are told from new ones. */
const endsRemembered = 256

export class AgentTallies {
  readonly #ended = new Tally(agentMetrics.ended)
  readonly #durations = new Timings(agentMetrics.duration, durationBounds)
  readonly #connects = new Tally(agentMetrics.schedulerConnects, [{}])
  readonly #read = new Tally(agentMetrics.backupReadBytes, [{}])
  readonly #stored = new Tally(agentMetrics.backupStoredBytes, [{}])
  readonly #seen = new Set<string>()

  connected(): void {
    this.#connects.add({})
  }

  /** May be told of an end again, while the disk refuses to take it: it counts once. */
  ended({ id, claims: { verb } }: Pick<JournalEntry, 'id' | 'claims'>, result: CommandResult): void {
    if (this.#seen.has(id)) return
    this.#seen.add(id)
    const [oldest] = this.#seen
    if (this.#seen.size > endsRemembered && oldest !== undefined) this.#seen.delete(oldest)
    this.#ended.add({ verb, outcome: result.outcome })
    this.#durations.observe({ verb }, Math.max(0, result.finishedAt - result.startedAt) / 1_000)
    if (verb === 'vm.backup') this.#backup(result)
  }

  text(more: Labels): string {
    return [this.#ended, this.#durations, this.#connects, this.#read, this.#stored]
      .map((tally) => tally.text(more))
      .join('')
  }

  #backup({ value }: CommandResult): void {
    const record = (value?.record ?? {}) as Readonly<Record<string, unknown>>
    this.#read.add({}, numberOf(record.readBytes))
    this.#stored.add({}, numberOf(record.storedBytes))
  }
}

function numberOf(value: unknown): number {
  return typeof value === 'number' ? value : 0
}
