// Progress as messages: every step, and within a step no more often than a person can follow.

import { asHostletError } from '../../errors.ts'
import type { Clock } from '../../lib/clock.ts'
import type { TransferProgress } from '../../protocol/backup.ts'
import type { AgentMessage } from '../../protocol/messages.ts'
import type { Execution, StepReport } from './engine.ts'
import type { Turns } from './turns.ts'

/** Shortest time between two messages about one step. */
export const progressIntervalMs = 1_000
const noteCharactersMax = 256

/** A listener for one operation's steps that sends what is worth sending. */
export function progressMessage(
  command: string,
  { clock, emit }: { readonly clock: Pick<Clock, 'now' | 'monotonic'>; emit(message: AgentMessage): void }
): (report: StepReport) => void {
  let last: { stepIndex: number; at: number; hasNote: boolean } | undefined
  return ({ step, stepIndex, steps, ratio, note, transfer }) => {
    const at = clock.monotonic()
    const hasNote = note !== undefined
    // The first word of a step is told at once: it may be the only one for long.
    const isSoon = last?.stepIndex === stepIndex && at - last.at < progressIntervalMs
    if (isSoon && (last?.hasNote === true || !hasNote)) return
    last = { stepIndex, at, hasNote }
    emit({
      type: 'progress',
      command,
      at: clock.now(),
      step,
      stepIndex,
      steps,
      ...(ratio !== undefined && Number.isFinite(ratio) && { ratio: Math.min(1, Math.max(0, ratio)) }),
      ...(note !== undefined && { note: note.slice(0, noteCharactersMax) }),
      ...(transfer !== undefined && { transfer: bounded(transfer) })
    })
  }
}

type Noted = Pick<Execution<never>, 'onProgress' | 'onTrouble'>

/** The same kept for whoever looks on this host, together with what interrupts a step. */
export function notedProgress(
  id: string,
  turns: Pick<Turns, 'noteReport' | 'noteTrouble'>,
  tell: (report: StepReport) => void
): Noted {
  return {
    onProgress: (report) => {
      turns.noteReport(id, report)
      tell(report)
    },
    onTrouble: (error, tries) => turns.noteTrouble(id, { error: asHostletError(error).toReport(), tries })
  }
}

/** Rates and rests are divisions, and the wire takes whole numbers that are not negative. */
function bounded({ doneBytes, totalBytes, bytesPerSecond, remainingMs }: TransferProgress): TransferProgress {
  return {
    doneBytes: whole(doneBytes),
    totalBytes: whole(totalBytes),
    bytesPerSecond: whole(bytesPerSecond),
    ...(remainingMs !== undefined && Number.isFinite(remainingMs) && { remainingMs: whole(remainingMs) })
  }
}

function whole(value: number): number {
  return Number.isFinite(value) ? Math.min(Number.MAX_SAFE_INTEGER, Math.max(0, Math.round(value))) : 0
}
