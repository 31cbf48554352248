// How an operation's end is told: bounded, so that the other side's schema takes it.

import { type ErrorReport, HostletError } from '../../errors.ts'
import type { CommandResult } from '../../protocol/command.ts'
import { messageBytesMax } from '../../protocol/messages.ts'
import type { JournalEntry } from './journal.ts'
import type { Outcome } from './verb.ts'

/** A result leaves room in its message for what is around it. */
export const resultBytesMax = messageBytesMax - 64 * 1024
const sentenceCharactersMax = 4_096
const wordCharactersMax = 256
const detailsMax = 32

export function resultOf(
  entry: Pick<JournalEntry, 'id' | 'startedAt'>,
  outcome: Outcome,
  finishedAt: number
): CommandResult {
  const frame = { command: entry.id, startedAt: entry.startedAt ?? finishedAt, finishedAt }
  if (outcome.outcome === 'failed')
    return { ...frame, outcome: 'failed', error: boundedReport(outcome.error) }
  const bytes = Buffer.byteLength(JSON.stringify(outcome.value))
  if (bytes <= resultBytesMax) return { ...frame, outcome: 'done', value: outcome.value }
  const text = `the result is ${bytes} bytes long, a message holds ${resultBytesMax}. Ask for less.`
  return { ...frame, outcome: 'failed', error: new HostletError('E_INTERNAL', text).toReport() }
}

/** Cut to what the wire's schema allows. */
export function boundedReport({ code, message, details }: ErrorReport): ErrorReport {
  const report = { code, message: message.slice(0, sentenceCharactersMax) }
  if (details === undefined) return report
  const entries = Object.entries(details).slice(0, detailsMax)
  const bounded = entries.map(([key, value]) => [
    key.slice(0, wordCharactersMax),
    typeof value === 'string' ? value.slice(0, sentenceCharactersMax) : value
  ])
  return { ...report, details: Object.fromEntries(bounded) }
}
