// Looking after a repository: whether snapshots are whole, and which may go.

import { blockBytes } from '../../backup/disk.ts'
import { prune } from '../../backup/prune/prune.ts'
import { verifySnapshot } from '../../backup/read/verify.ts'
import type { Clock } from '../../lib/clock.ts'
import type { BackupVerifyResult, PruneResult, Retention, Verification } from '../../protocol/backup.ts'
import type { Operation } from '../operations/verb.ts'
import type { Catalog, SnapshotQuery } from './catalog.ts'
import type { GoodBackups } from './records.ts'
import type { Repositories } from './repositories.ts'
import { ratioOf, transferMeter } from './transfer-meter.ts'

/** Faults that one answer tells; there may be more. */
export const faultsToldMax = 64

export interface MaintenanceOptions {
  readonly repositories: Repositories
  readonly catalog: Catalog
  readonly good: Pick<GoodBackups, 'noteDamage'>
  readonly clock: Clock
  readonly workers?: number | undefined
}

export type Looked = Omit<BackupVerifyResult, 'verification'> & {
  readonly verification: Omit<Verification, 'booted'>
}

type Watched = Pick<Operation, 'signal' | 'progress' | 'log'>

export class Maintenance {
  readonly #options: MaintenanceOptions

  constructor(options: MaintenanceOptions) {
    this.#options = options
  }

  /** Reads every block of a snapshot. What is wrong with its data is an answer; throws when there is nothing to look at. */
  async verify(query: SnapshotQuery, { signal, progress, log }: Watched): Promise<Looked> {
    const { catalog, good, clock, workers } = this.#options
    await using looked = await catalog.find(query, { signal })
    const { repository, vault, found: snapshot, freshness } = looked
    const meter = transferMeter(clock)
    const report = await verifySnapshot({
      store: repository.store,
      vm: vault.vm,
      snapshot,
      signal,
      ...(workers !== undefined && { workers }),
      onProgress: (done) => {
        const transfer = meter(done)
        progress({ ratio: ratioOf(transfer), transfer })
      }
    })
    const faults = report.faults.slice(0, faultsToldMax).map(({ message }) => message.slice(0, 4_096))
    const [fault] = faults
    if (fault !== undefined) {
      log.error({ snapshot: snapshot.id, faults: report.faultCount, fault }, 'backup is damaged')
      good.noteDamage(query.source, query.target, { snapshot: snapshot.id, fault })
    }
    return {
      snapshot: snapshot.id,
      source: query.source,
      verification: {
        at: clock.now(),
        outcome: report.outcome,
        freshness,
        ...(fault !== undefined && { fault })
      },
      blocks: report.goodBlocks + report.lostBlocks,
      readBytes: report.goodBlocks * blockBytes,
      faults
    }
  }

  /** Removes the snapshots of a VM that no rule keeps, and the data that then nothing needs. */
  async prune(
    { target, source, keep, dryRun }: { target: string; source: string; keep: Retention; dryRun: boolean },
    operation: Watched
  ): Promise<PruneResult> {
    const { repositories } = this.#options
    await using repository = await repositories.open(target, operation)
    await using lock = await repositories.lock(repository, source, operation)
    const signal = AbortSignal.any([operation.signal, lock.signal])
    const vault = await repositories.vault(repository, source, { signal })
    const confirm = () => lock.confirm()
    const { kept, removed, freedBytes } = await prune({ vault, keep, dryRun, confirm, signal })
    if (!dryRun) operation.log.info({ source, target, removed: removed.length, freedBytes }, 'backups pruned')
    return { kept: [...kept], removed: [...removed], freedBytes, dryRun }
  }
}
