// One holder for a part of a repository, without trust in any wall clock and without conditional writes; it dies with its holder.

import { randomUUID } from 'node:crypto'
import { HostletError } from '../../errors.ts'
import type { Clock } from '../../lib/clock.ts'
import { startDeadline } from '../../lib/deadline.ts'
import { HeldLock } from './held-lock.ts'
import {
  cleanUpMsMax,
  decodeLease,
  encodeLease,
  holdMs,
  isGone,
  LeaseWatch,
  leaseBytesMax,
  leaseLifetimeMs,
  type OwnLease,
  ownProcess,
  type ProcessIdentity,
  type StoredLease
} from './lease.ts'
import type { ObjectStore } from './store.ts'

/** More than this at once is not contention but a fault. */
export const leasesMax = 256
const pollMs = 5_000
const claimPauseMs = 400
/** A claimant with the right to stay looks so often whether the others have withdrawn. */
const claimLooksMax = 8

export interface LockHolder {
  /** Name or id of the host, for people. */
  readonly host: string
  /** What within the host: an operation, a command line. For people. */
  readonly instance?: string
}

export interface LockOptions {
  /** Folder of the leases, as `vms/<uuid>/locks`. */
  readonly name: string
  readonly holder: LockHolder
  readonly clock: Clock
  /** Ends the waiting, not the lock. */
  readonly signal: AbortSignal
  /**
   * How long to wait for another holder. Less than `leaseLifetimeMs` never takes over from a dead holder of another host.
   */
  readonly waitMs: number
  readonly random?: () => number
  /** For tests that stand for several processes. */
  readonly process?: ProcessIdentity
}

export interface RepositoryLock extends AsyncDisposable {
  /** Aborted when the lock could not be renewed in time (before others may take over), or was taken. */
  readonly signal: AbortSignal
  /** Looks whether the lock is held at this moment: for the step that cannot be undone. Throws E_CONFLICT when it is not. */
  confirm(): Promise<void>
  /** Throws nothing: a lease that could not be removed dies by itself. */
  release(): Promise<void>
}

/**
 * Waits for the lock. Everyone who wants it writes a lease under a name of its own, then lists: who sees only itself holds
 * it. Of two, the later writer sees the earlier, so there is never more than one, on every store whose listings show what
 * was written before. Throws E_BUSY naming the holder after `waitMs`.
 */
export async function acquireLock(store: ObjectStore, options: LockOptions): Promise<RepositoryLock> {
  const { clock, signal, waitMs, random = Math.random } = options
  const table = new LeaseTable(store, options)
  const watch = new LeaseWatch(clock)
  const giveUpAt = clock.monotonic() + waitMs
  for (let pauseMs = claimPauseMs; ; pauseMs = Math.min(pollMs, pauseMs * 2)) {
    signal.throwIfAborted()
    const leases = await table.read(signal)
    const dead = new Set([...watch.look(leases, leaseLifetimeMs), ...leases.filter(table.isOver)])
    for (const { name } of dead) await store.remove(name, { signal })
    const living = leases.filter((lease) => !dead.has(lease))
    const held = living.length === 0 ? await claim(table, options) : undefined
    if (held !== undefined) return held
    const ms = Math.ceil(pauseMs * (0.5 + random() / 2))
    if (clock.monotonic() + ms > giveUpAt) throw busy(options.name, living[0])
    await clock.sleep(ms, signal)
  }
}

/** Undefined when it had to withdraw. */
async function claim(table: LeaseTable, { clock, signal, random = Math.random }: LockOptions) {
  const own = table.newLease()
  let kept = false
  try {
    const writtenAt = clock.monotonic()
    await own.write('claim', signal)
    for (let look = 0; look < claimLooksMax; look++) {
      const others = await own.others(signal)
      if (others === undefined || clock.monotonic() - writtenAt >= holdMs) return undefined
      if (others.length === 0) {
        kept = true
        return await HeldLock.start(own, { clock, writtenAt })
      }
      // Of claimants that meet, the one with the smallest name stays: somebody gets on at every meeting.
      const mayStay = others.every(({ name, lease }) => name > own.name && lease?.phase === 'claim')
      if (!mayStay) return undefined
      await clock.sleep(Math.ceil(claimPauseMs * random()), signal)
    }
    return undefined
  } finally {
    if (!kept) await own.remove()
  }
}

/** The leases of one lock, as this process sees and writes them. */
class LeaseTable {
  readonly #store: ObjectStore
  readonly #options: LockOptions
  readonly #process: ProcessIdentity

  constructor(store: ObjectStore, options: LockOptions) {
    this.#store = store
    this.#options = options
    this.#process = options.process ?? ownProcess()
  }

  /** Of this host, and its process provably ended. */
  readonly isOver = ({ lease }: StoredLease): boolean =>
    lease !== undefined && isGone(lease.process, this.#process)

  async read(signal: AbortSignal): Promise<StoredLease[]> {
    const names: string[] = []
    for await (const { name } of this.#store.list(`${this.#options.name}/`, { signal })) {
      if (names.length < leasesMax) names.push(name)
    }
    const leases: StoredLease[] = []
    for (const name of names) {
      const content = await this.#content(name, signal)
      if (content !== undefined) leases.push({ name, content, lease: decodeLease(content) })
    }
    return leases
  }

  newLease(): OwnLease {
    const { name: folder, holder, clock } = this.#options
    const name = `${folder}/${randomUUID()}.json`
    const fixed = { ...holder, since: new Date(clock.now()).toISOString(), process: this.#process }
    const store = this.#store
    let revision = 0
    return {
      name,
      write: async (phase, signal) => {
        revision++
        await store.put(name, [encodeLease({ phase, revision, ...fixed })], { signal })
      },
      others: async (signal) => {
        const leases = await this.read(signal)
        const others = leases.filter((lease) => lease.name !== name)
        return others.length === leases.length ? undefined : others
      },
      remove: async () => {
        using deadline = startDeadline({ clock, ms: cleanUpMsMax, what: 'removing a lease' })
        // What stays has no renewals, so it dies; the caller must hear of what went wrong before.
        await store.remove(name, { signal: deadline.signal }).catch(() => undefined)
      }
    }
  }

  async #content(name: string, signal: AbortSignal): Promise<Buffer | undefined> {
    try {
      return Buffer.from(await this.#store.get(name, { signal, range: { offset: 0, length: leaseBytesMax } }))
    } catch (error) {
      if (error instanceof HostletError && error.code === 'E_NOT_FOUND') return undefined
      throw error
    }
  }
}

function busy(name: string, living: StoredLease | undefined): HostletError {
  const { lease } = living ?? {}
  const instance = lease?.instance === undefined ? '' : ` (${lease.instance})`
  const holder =
    lease === undefined
      ? living === undefined
        ? 'several who ask at the same time'
        : 'somebody whose lease cannot be read'
      : `host ${lease.host}${instance} since ${lease.since}`
  return new HostletError(
    'E_BUSY',
    `${name} is held by ${holder}. Wait until that is done; if that host is lost, the lock is free ${leaseLifetimeMs / 1_000} s after another has begun to wait.`,
    {
      details: {
        lock: name,
        ...(lease && { host: lease.host, since: lease.since, pid: lease.process.pid })
      }
    }
  )
}
