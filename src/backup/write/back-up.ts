// A backup of disks: reads what must be read, stores what the repository does not have, and returns the roots. Writes no manifest.

import { HostletError } from '../../errors.ts'
import type { Clock } from '../../lib/clock.ts'
import { blockBytes, type DiskSource } from '../disk.ts'
import { blocksOf, type NodeReference, treeLevels } from '../format/node.ts'
import type { ObjectStore } from '../repository/store.ts'
import { defaultWorkers, workersMax } from '../workers/pool.ts'
import { DiskPass } from './disk-pass.ts'
import { BackupEngine } from './engine.ts'
import { type DiskPlan, planDisk } from './plan.ts'
import type { Tracking } from './runs.ts'

export const disksMax = 64
const compressionLevelMax = 22

export interface DiskToBackUp {
  readonly role: string
  readonly source: DiskSource
  /** Root of the parent's tree; null where there is no parent, or its disk is all zeros. */
  readonly parent: NodeReference | null
  /** Size of the disk in the parent; that of the source where it is not given. */
  readonly parentSizeBytes?: number | undefined
  /** `allocatedBytes` of the disk in the parent, from which that of this backup follows; where it is not given, an upper bound does. */
  readonly parentAllocatedBytes?: number | undefined
  readonly tracking: Tracking
}

export interface DiskBackup {
  readonly role: string
  readonly sizeBytes: number
  readonly root: NodeReference | null
  readonly levels: number
  /** Blocks that are not all zeros, in bytes; an upper bound where a disk shrank, or nothing is known of its parent. */
  readonly allocatedBytes: number
  readonly readBytes: number
}

export interface BackUpOptions {
  readonly store: ObjectStore
  /** UUID of the VM. */
  readonly vm: string
  readonly vmKey: Uint8Array
  readonly disks: readonly DiskToBackUp[]
  /** Of zstd, 1 to 22. */
  readonly compressionLevel: number
  /** Limit of what is read from the disks. */
  readonly bytesPerSecond?: number | undefined
  /** Worker threads; a thread a core, at most two, where it is not given. Memory grows by 20 to 30 MiB with each. */
  readonly workers?: number | undefined
  readonly clock: Pick<Clock, 'monotonic' | 'sleep'>
  readonly signal: AbortSignal
  /** Bytes read so far, of those that are to be read. */
  onProgress(progress: { readonly doneBytes: number; readonly totalBytes: number }): void
}

export interface BackUpResult {
  readonly disks: readonly DiskBackup[]
  readonly readBytes: number
  readonly storedBytes: number
  readonly packs: number
}

/**
 * Backs up disks. Everything that the roots refer to is durable when it resolves. Rejects with the signal's reason, with
 * the error of the store or of a source as it is, or with E_CORRUPT when a node of a parent's tree is damaged; nothing
 * runs any more by then, and packs that were stored are for prune to remove.
 */
export async function backUpDisks(options: BackUpOptions): Promise<BackUpResult> {
  checkOptions(options)
  await using engine = new BackupEngine({ ...options, workers: options.workers ?? defaultWorkers() })
  try {
    return await backUpWith(engine, options)
  } catch (error) {
    // The first failure is the reason of all that come after it.
    engine.fail(error)
    throw engine.signal.reason
  }
}

async function backUpWith(engine: BackupEngine, { disks, onProgress }: BackUpOptions): Promise<BackUpResult> {
  const { signal } = engine
  const planned: PlannedDisk[] = []
  for (const disk of disks) {
    const { source, tracking, parentSizeBytes = source.sizeBytes } = disk
    const plan = await planDisk({ source, tracking, parentSizeBytes, signal })
    planned.push({ ...disk, parentSizeBytes, plan })
  }
  const totalBytes = planned.reduce((sum, { plan }) => sum + plan.readBytes, 0)
  let doneBytes = 0
  const onRead = (bytes: number) => {
    doneBytes += bytes
    onProgress({ doneBytes, totalBytes: Math.max(doneBytes, totalBytes) })
  }
  const backups: DiskBackup[] = []
  for (const disk of planned) backups.push(await backUpDisk(engine, disk, onRead))
  await engine.finish()
  return { disks: backups, readBytes: doneBytes, ...engine.stored }
}

interface PlannedDisk extends DiskToBackUp {
  readonly parentSizeBytes: number
  readonly plan: DiskPlan
}

async function backUpDisk(
  engine: BackupEngine,
  { role, source, parent, parentSizeBytes, parentAllocatedBytes, tracking, plan }: PlannedDisk,
  onRead: (bytes: number) => void
): Promise<DiskBackup> {
  const { sizeBytes } = source
  let readBytes = 0
  const compared = tracking === 'all' ? null : parent
  const pass = new DiskPass({
    engine,
    source,
    root: compared,
    parentSizeBytes,
    onRead: (bytes) => {
      readBytes += bytes
      onRead(bytes)
    }
  })
  const root = await pass.run(plan.runs)
  const blocksBefore = compared === null ? 0 : blocksOf(parentAllocatedBytes ?? parentSizeBytes)
  return {
    role,
    sizeBytes,
    root,
    levels: treeLevels(sizeBytes),
    allocatedBytes: between(0, (blocksBefore + pass.blocksGained) * blockBytes, sizeBytes),
    readBytes
  }
}

function between(least: number, value: number, most: number): number {
  return Math.min(Math.max(least, value), most)
}

function checkOptions({ disks, compressionLevel, workers = 1 }: BackUpOptions): void {
  if (!Number.isInteger(workers) || workers < 1 || workers > workersMax)
    throw new HostletError('E_BAD_REQUEST', `a backup has 1 to ${workersMax} worker threads, not ${workers}`)
  if (disks.length > disksMax)
    throw new HostletError('E_BAD_REQUEST', `a backup has at most ${disksMax} disks, not ${disks.length}`)
  if (!Number.isInteger(compressionLevel) || compressionLevel < 1 || compressionLevel > compressionLevelMax)
    throw new HostletError(
      'E_BAD_REQUEST',
      `zstd has levels 1 to ${compressionLevelMax}, not ${compressionLevel}`
    )
}
