// From bytes done to what a person wants to know: how fast, and how long still.

import type { Clock } from '../../lib/clock.ts'
import type { TransferProgress } from '../../protocol/backup.ts'

/** The rate is that of about the last so long, so that it follows a store that gets slower. */
export const rateWindowMs = 10_000
/** Bytes of a shorter time say nothing. */
const sampleMs = 500

/** Turns counts into progress. One for a transfer; counts only grow. */
export function transferMeter(
  clock: Pick<Clock, 'monotonic'>
): (done: { doneBytes: number; totalBytes: number }) => TransferProgress {
  let last: { at: number; doneBytes: number } | undefined
  let rate: number | undefined
  return ({ doneBytes, totalBytes }) => {
    const at = clock.monotonic()
    last ??= { at, doneBytes }
    const elapsedMs = at - last.at
    if (elapsedMs >= sampleMs) {
      const now = ((doneBytes - last.doneBytes) * 1_000) / elapsedMs
      const weight = 1 - Math.exp(-elapsedMs / rateWindowMs)
      rate = rate === undefined ? now : rate + weight * (now - rate)
      last = { at, doneBytes }
    }
    const bytesPerSecond = Math.max(0, Math.round(rate ?? 0))
    const remainingMs = Math.ceil((Math.max(0, totalBytes - doneBytes) * 1_000) / bytesPerSecond)
    return {
      doneBytes,
      totalBytes: Math.max(totalBytes, doneBytes),
      bytesPerSecond,
      ...(bytesPerSecond > 0 && Number.isSafeInteger(remainingMs) && { remainingMs })
    }
  }
}

export function ratioOf({ doneBytes, totalBytes }: TransferProgress): number {
  return totalBytes === 0 ? 1 : doneBytes / totalBytes
}
