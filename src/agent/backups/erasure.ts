// What becomes of a VM's backups at its end: which there are, as far as that can be known, and the removal of all of them.

import { eraseVault, holdsAnything, snapshotIds } from '../../backup/prune/erase.ts'
import { forEachConcurrent } from '../../backup/read/concurrent.ts'
import { asHostletError } from '../../errors.ts'
import type { Clock } from '../../lib/clock.ts'
import { startDeadline } from '../../lib/deadline.ts'
import { type CertifiedBackups, certifiedSnapshotsMax } from '../../protocol/lifecycle.ts'
import type { Wait } from '../host/hypervisor.ts'
import type { Operation } from '../operations/verb.ts'
import type { GoodBackups } from './records.ts'
import type { OpenRepository, Repositories } from './repositories.ts'

/** How long one repository may take to say what it holds: a teardown does not wait for a dead mount. */
export const lookMs = 30_000
/** How long another holder of the vault is waited for. */
export const eraseLockWaitMs = 120_000
const repositoriesAtOnce = 16
const uuidPattern = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/
const reasonCharactersMax = 1_024

type Snapshot = CertifiedBackups['remaining'][number]
type Unknown = CertifiedBackups['unknown'][number]

/** What was found, the newest first. */
export interface KnownBackups {
  readonly snapshots: readonly Snapshot[]
  readonly unknown: readonly Unknown[]
  readonly notListed: number
}

export interface BackupErasureOptions {
  readonly repositories: Repositories
  readonly good: GoodBackups
  readonly clock: Clock
}

export class BackupErasure {
  readonly #options: BackupErasureOptions

  constructor(options: BackupErasureOptions) {
    this.#options = options
  }

  /** In the repositories of the policy, and where those cannot be asked, as the host's own records say. */
  async look(uuid: string, wait: Wait): Promise<KnownBackups> {
    const snapshots: Snapshot[] = []
    const unknown: Unknown[] = []
    const { targets, faults } = this.#targets(uuid)
    unknown.push(...faults)
    for (const { target } of faults) snapshots.push(...this.#recorded(uuid, target))
    await forEachConcurrent(targets, repositoriesAtOnce, async (target) => {
      try {
        snapshots.push(...(await this.#lookInto(target, uuid, wait)))
      } catch (error) {
        wait.signal.throwIfAborted()
        snapshots.push(...this.#recorded(uuid, target))
        unknown.push({ target, reason: reasonOf(error) })
      }
    })
    snapshots.sort((one, other) => (other.at ?? 0) - (one.at ?? 0))
    const named = snapshots.slice(0, certifiedSnapshotsMax)
    return { snapshots: named, unknown, notListed: snapshots.length - named.length }
  }

  /** Removes all of them. What cannot be removed is an answer. `known` is what was found before anything was removed. */
  async erase(
    uuid: string,
    known: KnownBackups,
    operation: Pick<Operation, 'signal' | 'progress' | 'log'>
  ): Promise<CertifiedBackups> {
    const { targets, faults } = this.#targets(uuid)
    const unknown: Unknown[] = [...faults]
    const gone = new Set<string>()
    for (const target of targets) {
      try {
        await this.#eraseIn(target, uuid, operation)
        gone.add(target)
      } catch (error) {
        operation.signal.throwIfAborted()
        operation.log.error({ target, error }, 'backups could not be erased')
        unknown.push({ target, reason: `not everything could be removed: ${reasonOf(error)}` })
      }
    }
    return {
      asked: true,
      erased: known.snapshots.filter(({ target }) => gone.has(target)),
      remaining: known.snapshots.filter(({ target }) => !gone.has(target)),
      unknown,
      notListed: known.notListed
    }
  }

  /** Those of the policy; a repository that only the host's records name cannot be asked any more. */
  #targets(uuid: string): { targets: string[]; faults: Unknown[] } {
    const recorded = [...this.#options.good.allGood(uuid).keys()]
    try {
      const targets = Object.keys(this.#options.repositories.policy().repositories)
      const lost = recorded.filter((target) => !targets.includes(target))
      const reason = "the host's policy does not name it any more"
      return { targets, faults: lost.map((target) => ({ target, reason })) }
    } catch (error) {
      return { targets: [], faults: recorded.map((target) => ({ target, reason: reasonOf(error) })) }
    }
  }

  #recorded(uuid: string, target: string): Snapshot[] {
    const good = this.#options.good.lastGood(uuid, target)
    return good === undefined ? [] : [{ target, snapshot: good.snapshot, at: good.at }]
  }

  async #lookInto(target: string, vm: string, wait: Wait): Promise<Snapshot[]> {
    const { clock, repositories } = this.#options
    using deadline = startDeadline({
      clock,
      ms: lookMs,
      what: `the look into ${target}`,
      signal: wait.signal
    })
    const { signal } = deadline
    await using repository = await this.#open(target, { signal })
    if (repository === undefined) return []
    const ids = (await snapshotIds({ store: repository.store, vm, signal })).filter((id) =>
      uuidPattern.test(id)
    )
    if (ids.length === 0) return []
    const times = await timesOf(repositories, repository, vm, { signal })
    return ids.map((snapshot) => {
      const at = times.get(snapshot)
      return { target, snapshot, ...(at !== undefined && { at }) }
    })
  }

  async #eraseIn(
    target: string,
    vm: string,
    operation: Pick<Operation, 'signal' | 'progress' | 'log'>
  ): Promise<void> {
    const { repositories, good } = this.#options
    await using repository = await this.#open(target, operation)
    if (repository !== undefined && (await holdsAnything({ ...repository, vm, signal: operation.signal }))) {
      operation.progress({ note: `erasing its backups in ${target}` })
      await using lock = await repositories.lock(repository, vm, operation, eraseLockWaitMs)
      const signal = AbortSignal.any([operation.signal, lock.signal])
      const { store } = repository
      const { snapshots, objects, bytes } = await eraseVault({
        store,
        vm,
        signal,
        confirm: () => lock.confirm()
      })
      operation.log.info({ target, vm, snapshots: snapshots.length, objects, bytes }, 'backups erased')
    }
    good.forgetGood(vm, target)
  }

  /** Undefined where there never was a repository: nothing was ever backed up to it. */
  async #open(target: string, wait: Wait): Promise<OpenRepository | undefined> {
    try {
      return await this.#options.repositories.open(target, wait)
    } catch (error) {
      const { code } = asHostletError(error)
      if (code === 'E_NOT_FOUND' && !this.#everUsed(target)) return undefined
      throw error
    }
  }

  /** A repository that was used before and is empty now is not mounted. */
  #everUsed(target: string): boolean {
    return this.#options.good.isUsed(target)
  }
}

/** When each was made, of those whose manifests can be read. */
async function timesOf(
  repositories: Repositories,
  repository: OpenRepository,
  vm: string,
  wait: Wait
): Promise<ReadonlyMap<string, number>> {
  try {
    const snapshots = await (await repositories.vault(repository, vm, wait)).snapshots(wait)
    return new Map(snapshots.flatMap((one) => (one.state === 'good' ? [[one.id, one.body.at] as const] : [])))
  } catch (error) {
    wait.signal.throwIfAborted()
    // Nobody here has a key for them: that they are there is known all the same.
    if (asHostletError(error).code !== 'E_AUTH') throw error
    return new Map()
  }
}

function reasonOf(error: unknown): string {
  return asHostletError(error).message.slice(0, reasonCharactersMax)
}
