// Removes snapshots that no rule keeps, and then the data that only they needed.

import { type ErrorCode, HostletError } from '../../errors.ts'
import type { Wait } from '../disk.ts'
import type { GoodSnapshot, SnapshotSummary } from '../vault/read-manifest.ts'
import type { Vault } from '../vault/vault.ts'
import { LiveEntries } from './live-entries.ts'
import { chooseKept, type Retention } from './retention.ts'
import { listPacks, liveShareMin, sweep } from './sweep.ts'

export interface PruneOptions extends Wait {
  readonly vault: Vault
  readonly keep: Retention
  /**
   * Looks whether the vault's lock is held at this moment, and throws when it is not: asked before snapshots are removed and
   * before packs are.
   */
  readonly confirm?: () => Promise<void>
  /** Only says what would go. */
  readonly dryRun?: boolean
  /**
   * Also removes snapshots whose manifest cannot be believed or whose tree cannot be walked. Without it one such stops the
   * prune before anything is removed: what it needs is not known, and might be read again with another key or CA.
   */
  readonly removeDamaged?: boolean
  /** Share of a pack's bytes below which it is written anew; 0.5 unless said otherwise. */
  readonly liveShareMin?: number
}

export interface PruneReport {
  /** Ids, the newest last. */
  readonly kept: readonly string[]
  readonly removed: readonly string[]
  /** Bytes of packs that came free. */
  readonly freedBytes: number
  readonly removedPacks: number
  readonly compactedPacks: number
  /** Packs that are needed but damaged: left as they are. */
  readonly damagedPacks: readonly string[]
}

/**
 * Runs under the vault's lock, which the caller holds: without it packs of a running backup would look like garbage, and
 * `signal` must be aborted when the lock is lost. First the trees of what stays are walked, then manifests go, then packs,
 * then packs with little that is needed are written anew: cut short anywhere, every snapshot whose manifest is there is
 * whole, and the next run goes on. Throws E_CORRUPT, E_AUTH or E_UNSUPPORTED, with nothing removed, when a snapshot
 * cannot be read.
 */
export async function prune(options: PruneOptions): Promise<PruneReport> {
  const { vault, dryRun = false, signal } = options
  const { store, vm } = vault
  const confirm = dryRun ? undefined : options.confirm
  // Before the snapshots are read: what is written from then on is none of ours, even if the lock is lost unseen.
  const packs = await listPacks({ store, vm, signal })
  const all = await vault.snapshots({ signal })
  const { kept, live } = await mark(all, options)
  const keptIds = new Set(kept.map(({ id }) => id))
  const removed = all.filter(({ id }) => !keptIds.has(id)).map(({ id }) => id)
  if (removed.length > 0) await confirm?.()
  if (!dryRun) for (const id of removed) await vault.remove(id, { signal })
  await confirm?.()
  const share = options.liveShareMin ?? liveShareMin
  const swept = await sweep(packs, { store, vm, live, dryRun, liveShareMin: share, signal })
  return { kept: kept.map(({ id }) => id), removed, ...swept }
}

async function mark(
  all: readonly SnapshotSummary[],
  options: PruneOptions
): Promise<{ kept: GoodSnapshot[]; live: LiveEntries }> {
  const { vault, keep, removeDamaged = false, signal } = options
  const bad = all.find((one) => one.state === 'bad')
  if (bad !== undefined && !removeDamaged) throw stopped(bad.id, bad.code, bad.message)
  let good = all.filter((one) => one.state === 'good')
  for (;;) {
    const chosen = chooseKept(
      good.map(({ id, body }) => ({ id, at: body.at })),
      keep
    )
    const kept = good.filter(({ id }) => chosen.has(id))
    const live = new LiveEntries()
    const damaged = new Set<string>()
    for (const snapshot of kept) {
      const fault = await live.mark(vault, snapshot, { signal })
      if (fault !== undefined && !removeDamaged) throw stopped(snapshot.id, 'E_CORRUPT', fault)
      if (fault !== undefined) damaged.add(snapshot.id)
    }
    if (damaged.size === 0) return { kept, live }
    // Others take the places of those that are damaged.
    good = good.filter(({ id }) => !damaged.has(id))
  }
}

function stopped(snapshot: string, code: ErrorCode, why: string): HostletError {
  return new HostletError(
    code,
    `nothing was pruned: snapshot ${snapshot} cannot be read, so that it is not known what it needs (${why}). Verify it; prune with the removal of damaged snapshots to give it up.`,
    { details: { snapshot } }
  )
}
