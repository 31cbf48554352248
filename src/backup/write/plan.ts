// The plan of a disk, made before anything is read, so that it is known how much will be.

import { blockBytes, type DiskSource } from '../disk.ts'
import { planRuns, type Run, type Tracking } from './runs.ts'

/** Runs of a disk that are kept in memory. A disk of more pieces is planned further while it is read. */
const runsAheadMax = 65_536

export interface PlanOptions {
  readonly source: DiskSource
  readonly tracking: Tracking
  readonly parentSizeBytes: number
  readonly signal: AbortSignal
}

export interface DiskPlan {
  /** All runs of the disk; may be gone through once. */
  readonly runs: AsyncIterable<Run>
  /** Bytes to be read, as far as the plan goes, and all the rest of the disk beyond that. */
  readonly readBytes: number
}

export async function planDisk({
  source,
  tracking,
  parentSizeBytes,
  signal
}: PlanOptions): Promise<DiskPlan> {
  const { sizeBytes } = source
  const runs = planRuns(source.extents({ signal }), { sizeBytes, tracking, parentSizeBytes })
  const ahead: Run[] = []
  let readBytes = 0
  let end = 0
  while (ahead.length < runsAheadMax) {
    signal.throwIfAborted()
    const { value: run, done } = await runs.next()
    if (done) break
    ahead.push(run)
    end = Math.min((run.first + run.count) * blockBytes, sizeBytes)
    if (run.action === 'read') readBytes += end - run.first * blockBytes
  }
  return {
    runs: chain(ahead, runs),
    readBytes: readBytes + (sizeBytes - end)
  }
}

async function* chain(ahead: readonly Run[], rest: AsyncIterable<Run>): AsyncGenerator<Run> {
  yield* ahead
  yield* rest
}
