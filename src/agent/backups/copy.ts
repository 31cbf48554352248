// The data of one backup: a view of the VM's disks for as long as it takes to copy what the repository lacks.

import type { DiskSource } from '../../backup/disk.ts'
import type { ObjectStore } from '../../backup/repository/store.ts'
import type { ManifestBody } from '../../backup/vault/manifest-body.ts'
import type { GoodSnapshot } from '../../backup/vault/read-manifest.ts'
import { backUpDisks, type DiskBackup, type DiskToBackUp } from '../../backup/write/back-up.ts'
import { asHostletError } from '../../errors.ts'
import type { Clock } from '../../lib/clock.ts'
import { startDeadline } from '../../lib/deadline.ts'
import type { BackupJob, BackupRequest } from '../host/backup-port.ts'
import type { Hypervisor, Wait } from '../host/hypervisor.ts'
import type { Operation } from '../operations/verb.ts'
import { type BackupPlan, fallback } from './plan.ts'
import { ratioOf, transferMeter } from './transfer-meter.ts'

/** For what has to happen after a run has failed or was cut short. */
export const tidyMs = 120_000

export type Watched = Pick<Operation, 'signal' | 'log' | 'progress'>

export interface CopyOptions {
  readonly hypervisor: Pick<Hypervisor, 'beginBackup' | 'removeCheckpoint'>
  readonly clock: Clock
  readonly compressionLevel: number
  readonly workers?: number | undefined
}

export interface CopyOrder {
  readonly vm: string
  readonly uuid: string
  readonly request: Omit<BackupRequest, 'since'>
  readonly store: ObjectStore
  readonly vmKey: Uint8Array
  readonly bytesPerSecond: number | undefined
}

export interface Copied {
  /** What it came to: a plan whose checkpoint proved to be of no use falls back. */
  readonly plan: BackupPlan
  readonly job: BackupJob
  readonly disks: readonly DiskBackup[]
  readonly counts: ManifestBody['counts']
}

/**
 * Begins the job, copies, and ends it: when it resolves all data is in the repository and the new checkpoint stands. When
 * it throws, the job and its checkpoint are gone, or are left to the next `clearBackup`, as the log says.
 */
export async function copyDisks(
  order: CopyOrder,
  { plan: planned, parent }: { plan: BackupPlan; parent: GoodSnapshot | undefined },
  options: CopyOptions,
  watched: Watched
): Promise<Copied> {
  const { job, plan } = await begin(order, planned, options, watched)
  // The job's signal is aborted by its own end, too: what fails from there on is not its loss.
  let isEnding = false
  try {
    const signal = AbortSignal.any([watched.signal, job.signal])
    if (plan.reason !== undefined)
      watched.log.warn({ kind: plan.kind, reason: plan.reason }, 'backup cannot go on from the last one')
    const { disks, readBytes, storedBytes, packs } = await transfer(order, { job, plan, parent }, options, {
      ...watched,
      signal
    })
    signal.throwIfAborted()
    isEnding = true
    await job.end({ signal: watched.signal, keepCheckpoint: true })
    return { plan, job, disks, counts: { readBytes, storedBytes, packs } }
  } catch (error) {
    const lost = !isEnding && job.signal.aborted && !watched.signal.aborted
    const why: unknown = lost ? job.signal.reason : error
    await tidy('end the backup job', options.clock, watched, (wait) =>
      job.end({ ...wait, keepCheckpoint: false })
    )
    throw why
  }
}

/** Does what must be tried once, also when the operation was cut short; a failure is only told. */
export async function tidy(
  doing: string,
  clock: Clock,
  { log }: Pick<Watched, 'log'>,
  work: (wait: Wait) => Promise<unknown>
): Promise<void> {
  using deadline = startDeadline({ clock, ms: tidyMs, what: doing })
  try {
    await work({ signal: deadline.signal })
  } catch (error) {
    log.warn({ error, doing }, 'backup could not be tidied up now, the next one will')
  }
}

/** A checkpoint that is of no use is removed, and all is read instead. */
async function begin(
  { vm, request }: CopyOrder,
  plan: BackupPlan,
  { hypervisor }: CopyOptions,
  { signal, progress }: Watched
): Promise<{ job: BackupJob; plan: BackupPlan }> {
  progress({ note: 'beginning the backup' })
  try {
    return { plan, job: await hypervisor.beginBackup(vm, { ...request, since: plan.since }, { signal }) }
  } catch (error) {
    if (plan.since === null || asHostletError(error).code !== 'E_STALE') throw error
    await hypervisor.removeCheckpoint(vm, plan.since, { signal })
    const job = await hypervisor.beginBackup(vm, { ...request, since: null }, { signal })
    return { plan: fallback(asHostletError(error).message), job }
  }
}

async function transfer(
  { uuid, store, vmKey, bytesPerSecond }: CopyOrder,
  { job, plan, parent }: { job: BackupJob; plan: BackupPlan; parent: GoodSnapshot | undefined },
  { clock, compressionLevel, workers }: CopyOptions,
  { signal, progress }: Watched
) {
  const sources: DiskSource[] = []
  try {
    const disks: DiskToBackUp[] = []
    for (const { role, open } of job.disks.map((disk) => ({ role: disk.role, open: disk.open.bind(disk) }))) {
      const source = await open({ signal })
      sources.push(source)
      disks.push(diskToBackUp(role, source, plan, parent))
    }
    const meter = transferMeter(clock)
    return await backUpDisks({
      store,
      vm: uuid,
      vmKey,
      disks,
      compressionLevel,
      clock,
      signal,
      ...(workers !== undefined && { workers }),
      ...(bytesPerSecond !== undefined && { bytesPerSecond }),
      onProgress: (done) => {
        const transfer = meter(done)
        progress({ ratio: ratioOf(transfer), transfer })
      }
    })
  } finally {
    await Promise.allSettled(sources.map((source) => source.close()))
  }
}

function diskToBackUp(
  role: string,
  source: DiskSource,
  plan: BackupPlan,
  parent: GoodSnapshot | undefined
): DiskToBackUp {
  const before = parent?.body.disks.find((disk) => disk.role === role)
  if (before === undefined) return { role, source, parent: null, tracking: 'all' }
  const tracking = plan.kind === 'incremental' ? 'changed' : 'compare'
  const { root, sizeBytes, allocatedBytes } = before
  return {
    role,
    source,
    parent: root,
    parentSizeBytes: sizeBytes,
    parentAllocatedBytes: allocatedBytes,
    tracking
  }
}
