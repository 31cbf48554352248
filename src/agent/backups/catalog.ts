// What a repository holds: its VMs and snapshots, and the one that a command means.

import { type Freshness, freshnessOf, type Remembered } from '../../backup/vault/freshness.ts'
import type { GoodSnapshot, SnapshotSummary } from '../../backup/vault/read-manifest.ts'
import type { Vault } from '../../backup/vault/vault.ts'
import { asHostletError, HostletError } from '../../errors.ts'
import type { Logger } from '../../lib/log.ts'
import { type BackupListResult, listedSnapshotsMax } from '../../protocol/backup.ts'
import type { Wait } from '../host/hypervisor.ts'
import type { GoodBackups } from './records.ts'
import type { OpenRepository, Repositories } from './repositories.ts'
import { backupRecord, newestOf } from './snapshot-record.ts'

/** VMs of one repository that are looked at for a list. */
export const listedVmsMax = 4_096

export interface SnapshotQuery {
  readonly target: string
  /** UUID of the VM that was backed up. */
  readonly source: string
  /** Its id, or `latest`. */
  readonly snapshot: string
  /** The newest that the scheduler knows. */
  readonly expected?: string | undefined
}

export interface FoundSnapshot extends AsyncDisposable {
  readonly repository: OpenRepository
  readonly vault: Vault
  readonly found: SnapshotSummary
  readonly freshness: Freshness
}

export interface ChosenSnapshot extends Omit<FoundSnapshot, 'found'> {
  readonly chosen: GoodSnapshot
}

export class Catalog {
  readonly #repositories: Repositories
  readonly #good: GoodBackups
  readonly #log: Logger

  constructor(options: { repositories: Repositories; good: GoodBackups; log: Logger }) {
    this.#repositories = options.repositories
    this.#good = options.good
    this.#log = options.log
  }

  /**
   * The snapshot, with its repository open until disposed of. Throws E_NOT_FOUND when there is none, E_AUTH without a key
   * that opens it, what is wrong with its manifest, and E_CORRUPT when `latest` is asked of a repository that was rolled
   * back: what is the latest there is not the latest that was made. One that is named by its id is what it is.
   */
  async choose(query: SnapshotQuery, wait: Wait): Promise<ChosenSnapshot> {
    await using stack = new AsyncDisposableStack()
    const { found, repository, vault, freshness } = stack.use(await this.find(query, wait))
    if (found.state === 'bad')
      throw new HostletError(found.code, found.message, { details: { snapshot: found.id } })
    const owned = stack.move()
    return { repository, vault, freshness, chosen: found, [Symbol.asyncDispose]: () => owned.disposeAsync() }
  }

  /** As `choose`, also a snapshot whose manifest is not good: to say what is wrong with it. */
  async find(query: SnapshotQuery, wait: Wait): Promise<FoundSnapshot> {
    await using stack = new AsyncDisposableStack()
    const repository = stack.use(await this.#repositories.open(query.target, wait))
    const vault = await this.#repositories.vault(repository, query.source, wait)
    const snapshots = await vault.snapshots(wait)
    const freshness = this.#freshness(snapshots, query)
    if (freshness === 'rolled-back') this.#rolledBack(query, repository)
    const latest = query.snapshot === 'latest'
    const found = latest ? this.#latest(snapshots, query) : byId(snapshots, query.snapshot)
    if (found === undefined)
      throw new HostletError(
        'E_NOT_FOUND',
        `VM ${query.source} has no snapshot${latest ? '' : ` ${query.snapshot}`} in ${repository.store.description}`
      )
    const owned = stack.move()
    return { repository, vault, found, freshness, [Symbol.asyncDispose]: () => owned.disposeAsync() }
  }

  /** All of a repository, or those of one VM. */
  async list(
    { target, source }: { target: string; source?: string | undefined },
    wait: Wait
  ): Promise<BackupListResult> {
    await using repository = await this.#repositories.open(target, wait)
    const sources = source === undefined ? await vmsIn(repository, wait) : [source]
    const result: BackupListResult = { snapshots: [], damaged: [], locked: [] }
    for (const uuid of sources) await this.#listOne(repository, uuid, result, wait)
    return {
      snapshots: result.snapshots.slice(0, listedSnapshotsMax),
      damaged: result.damaged.slice(0, listedSnapshotsMax),
      locked: result.locked.slice(0, listedSnapshotsMax)
    }
  }

  async #listOne(
    repository: OpenRepository,
    uuid: string,
    result: BackupListResult,
    wait: Wait
  ): Promise<void> {
    try {
      const vault = await this.#repositories.vault(repository, uuid, wait)
      for (const one of await vault.snapshots(wait)) {
        if (one.state === 'good') result.snapshots.push(backupRecord(repository.target, one.id, one.body))
        else result.damaged.push({ uuid, snapshot: one.id, fault: one.message.slice(0, 4_096) })
      }
    } catch (error) {
      if (asHostletError(error).code !== 'E_AUTH') throw error
      result.locked.push(uuid)
    }
  }

  /** The newest; a damaged one where it is known to be that, rather than an older one in its place. */
  #latest(snapshots: readonly SnapshotSummary[], query: SnapshotQuery): SnapshotSummary | undefined {
    const known = this.#remembered(query).map(({ snapshot }) => byId(snapshots, snapshot))
    return known.find((one) => one?.state === 'bad') ?? newestOf(snapshots) ?? snapshots.at(-1)
  }

  #remembered({ target, source, expected }: SnapshotQuery): Remembered[] {
    const known = this.#good.lastGood(source, target)
    return [
      ...(known === undefined ? [] : [{ snapshot: known.snapshot, sequence: known.sequence }]),
      ...(expected === undefined ? [] : [{ snapshot: expected }])
    ]
  }

  #freshness(snapshots: readonly SnapshotSummary[], query: SnapshotQuery): Freshness {
    const remembered = this.#remembered(query)
    const good = snapshots.filter((one) => one.state === 'good')
    // One that cannot be read is damaged, not rolled back.
    const present = new Set(snapshots.filter((one) => one.state === 'bad').map(({ id }) => id))
    const missing = remembered.filter(({ snapshot }) => !present.has(snapshot))
    return missing.length === 0 && remembered.length > 0 ? 'known' : freshnessOf(good, missing)
  }

  #rolledBack({ target, source, snapshot, expected }: SnapshotQuery, { store }: OpenRepository): void {
    const known = this.#good.lastGood(source, target)?.snapshot
    const details = { target, source, ...(expected && { expected }), ...(known && { known }) }
    this.#log.error(details, 'repository was rolled back')
    if (snapshot !== 'latest') return
    throw new HostletError(
      'E_CORRUPT',
      `${store.description} was put back to an older state: the newest snapshot of VM ${source} that is known (${expected ?? known}) is not there, nor a newer one. Look who changed the repository; to use what is left, name a snapshot by its id.`,
      { details }
    )
  }
}

function byId(snapshots: readonly SnapshotSummary[], snapshot: string): SnapshotSummary | undefined {
  return snapshots.find(({ id }) => id === snapshot)
}

/** UUIDs of the VMs that have objects there. */
async function vmsIn({ store }: OpenRepository, wait: Wait): Promise<string[]> {
  const found = new Set<string>()
  for await (const { name } of store.list('vms/', wait)) {
    const uuid = /^vms\/([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\/snapshots\//.exec(name)?.[1]
    if (uuid !== undefined && found.size < listedVmsMax) found.add(uuid)
  }
  return [...found].sort()
}
