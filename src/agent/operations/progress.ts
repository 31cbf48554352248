// Progress as messages: every step, and within a step no more often than a person can follow.

import type { Clock } from '../../lib/clock.ts'
import type { AgentMessage } from '../../protocol/messages.ts'
import type { StepReport } from './engine.ts'

/** Shortest time between two messages about one step. */
export const progressIntervalMs = 1_000
const noteCharactersMax = 256

/** A listener for one operation's steps that sends what is worth sending. */
export function progressMessage(
  command: string,
  { clock, emit }: { readonly clock: Pick<Clock, 'now' | 'monotonic'>; emit(message: AgentMessage): void }
): (report: StepReport) => void {
  let last: { stepIndex: number; at: number } | undefined
  return ({ step, stepIndex, steps, ratio, note }) => {
    const at = clock.monotonic()
    if (last?.stepIndex === stepIndex && at - last.at < progressIntervalMs) return
    last = { stepIndex, at }
    emit({
      type: 'progress',
      command,
      at: clock.now(),
      step,
      stepIndex,
      steps,
      ...(ratio !== undefined && Number.isFinite(ratio) && { ratio: Math.min(1, Math.max(0, ratio)) }),
      ...(note !== undefined && { note: note.slice(0, noteCharactersMax) })
    })
  }
}
