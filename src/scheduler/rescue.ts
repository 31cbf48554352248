// The way back in for who owns the machine: an admin key made beside the scheduler, in its store, good for an hour.

import { statSync } from 'node:fs'
import { join } from 'node:path'
import { HostletError } from '../errors.ts'
import type { Clock } from '../lib/clock.ts'
import type { SchedulerConfig } from './config.ts'
import { ApiKeys } from './http/api-keys.ts'
import { SqliteStore } from './store/sqlite-store.ts'
import type { KeyRecord } from './store/store.ts'

export const rescueKeyMs = 3_600_000

/**
 * Works while the scheduler runs and while it does not; its audit tells of it, with who did it. Throws E_NOT_FOUND where there
 * is no store, E_AUTH for a user to whom it does not belong: what he made in it would be in the scheduler's way, E_UNSUPPORTED
 * for a store of another release: the scheduler that runs may know nothing of what this one would make of it.
 */
export async function makeRescueKey(
  config: SchedulerConfig,
  {
    clock,
    by,
    uid
  }: { readonly clock: Pick<Clock, 'now'>; readonly by: string; readonly uid: number | undefined }
): Promise<{ record: KeyRecord; text: string }> {
  assertOwn(join(config.stateDirectory, 'scheduler.db'), uid)
  const store = new SqliteStore(config.stateDirectory, config, { isGuest: true })
  try {
    const keys = new ApiKeys({ store: store.keys, clock })
    const options = { tier: 'admin', note: 'rescue', owner: by, ttlMs: rescueKeyMs, isMachine: true } as const
    const made = await keys.create(options)
    const fields = { object: made.record.id, by, expiresAt: made.record.expiresAt }
    await store.audit.append({ at: clock.now(), kind: 'key.rescue', fields })
    return made
  } finally {
    await store.close()
  }
}

function assertOwn(path: string, uid: number | undefined): void {
  const owner = ownerOf(path)
  if (owner === undefined)
    throw new HostletError(
      'E_NOT_FOUND',
      `there is no store of a scheduler at ${path}. Run this on its machine, with its --config.`
    )
  if (uid !== undefined && uid !== owner)
    throw new HostletError(
      'E_AUTH',
      `${path} belongs to another user. Run this as the one that the scheduler runs as: runuser -u hostlet-scheduler -- hostlet key rescue.`
    )
}

/** Undefined where there is no such file; NaN where this user may not even know. */
function ownerOf(path: string): number | undefined {
  try {
    return statSync(path).uid
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'ENOENT' ? undefined : Number.NaN
  }
}
