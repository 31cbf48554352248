// API keys over time: ends, warnings before them, rotation with an overlap, masks, and keys of older releases.

import assert from 'node:assert/strict'
import { randomBytes, randomUUID } from 'node:crypto'
import { rmSync } from 'node:fs'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { describe, it } from 'node:test'
import type { AuditList, CreatedKey, KeyList, KeyView } from '../../../src/protocol/api.ts'
import { keyExpiresHeader } from '../../../src/protocol/api.ts'
import { keyWarningIntervalMs, pruneIntervalMs } from '../../../src/scheduler/housekeeping.ts'
import { secretHash } from '../../../src/scheduler/http/api-keys.ts'
import { migrate } from '../../../src/scheduler/store/migrate.ts'
import { mainMigrations } from '../../../src/scheduler/store/migrations.ts'
import { TestScheduler } from '../support/test-scheduler.ts'

const dayMs = 86_400_000

async function make(scheduler: TestScheduler, json: Record<string, unknown>): Promise<CreatedKey> {
  return scheduler.api.post<CreatedKey>('/v1/keys', { tier: 'read', ...json })
}

async function find(scheduler: TestScheduler, id: string): Promise<KeyView | undefined> {
  return (await scheduler.api.get<KeyList>('/v1/keys')).keys.find((key) => key.id === id)
}

describe('API keys', { timeout: 60_000 }, () => {
  it('are shown by their last four characters alone, with owner, end, and when and from where they were used', async () => {
    await using scheduler = await TestScheduler.start()
    const { key, text } = await make(scheduler, { owner: 'Ada', note: 'laptop', ttlSeconds: 90 * 86_400 })
    const now = scheduler.clock.now()
    assert.deepEqual(key, {
      ...{ id: key.id, tier: 'read', owner: 'Ada', note: 'laptop', machine: false, secondFactor: 'none' },
      ...{ masked: `hlk_…${text.slice(-4)}`, createdAt: now, expiresAt: now + 90 * dayMs }
    })
    await scheduler.apiWith(text).get('/v1/hosts')
    const used = await find(scheduler, key.id)
    assert.deepEqual([used?.lastUsedAt, used?.lastUsedFrom], [now, '127.0.0.1'])
  })

  it('say before their end that it is near, and after it since when, to the audit too', async () => {
    await using scheduler = await TestScheduler.start()
    const { key, text } = await make(scheduler, { ttlSeconds: 30 * 86_400 })
    const end = new Date(key.expiresAt ?? 0).toISOString()
    const api = scheduler.apiWith(text)
    assert.equal((await api.ask({ path: '/v1/hosts' })).headers[keyExpiresHeader], undefined)
    scheduler.clock.jump(17 * dayMs)
    assert.equal((await api.ask({ path: '/v1/hosts' })).headers[keyExpiresHeader], end)
    assert.equal((await scheduler.api.ask({ path: '/v1/hosts' })).headers[keyExpiresHeader], undefined)
    await scheduler.clock.advance(keyWarningIntervalMs)
    assert.match(
      scheduler.log.text(),
      new RegExp(`${key.id}.*API key ends soon|API key ends soon.*${key.id}`)
    )
    scheduler.clock.jump(13 * dayMs)
    const failure = await api.failure({ path: '/v1/hosts' })
    assert.deepEqual([failure.status, failure.details], [401, { reason: 'expired-key', key: key.id }])
    assert.ok(failure.message.includes(end))
    assert.match(failure.message, /hostlet key create/)
    const { entries } = await scheduler.api.get<AuditList>(`/v1/audit?key=${key.id}&refused=true`)
    assert.equal((entries[0] as Record<string, unknown>).reason, 'expired-key')
  })

  it('are listed for a while after their end, then forgotten', async () => {
    await using scheduler = await TestScheduler.start()
    const { key, text } = await make(scheduler, { ttlSeconds: 60 })
    scheduler.clock.jump(29 * dayMs)
    await scheduler.clock.advance(pruneIntervalMs)
    assert.ok(await find(scheduler, key.id))
    scheduler.clock.jump(2 * dayMs)
    await scheduler.clock.advance(pruneIntervalMs)
    assert.equal(await find(scheduler, key.id), undefined)
    assert.equal(
      (await scheduler.apiWith(text).failure({ path: '/v1/hosts' })).details?.reason,
      'unknown-key'
    )
  })

  it('are rotated: both are good for the overlap, then the new one alone, which lasts as long again', async () => {
    await using scheduler = await TestScheduler.start()
    const old = await make(scheduler, { owner: 'Ada', ttlSeconds: 30 * 86_400, machine: true })
    scheduler.clock.jump(20 * dayMs)
    const made = await scheduler.api.post<CreatedKey>(`/v1/keys/${old.key.id}/rotate`, {
      overlapSeconds: 3_600
    })
    const now = scheduler.clock.now()
    const { owner, machine, tier, expiresAt } = made.key
    assert.deepEqual([owner, machine, tier, expiresAt], ['Ada', true, 'read', now + 30 * dayMs])
    assert.equal((await find(scheduler, old.key.id))?.expiresAt, now + 3_600_000)
    await scheduler.apiWith(old.text).get('/v1/hosts')
    scheduler.clock.jump(3_600_000)
    await scheduler.apiWith(made.text).get('/v1/hosts')
    assert.equal((await scheduler.apiWith(old.text).ask({ path: '/v1/hosts' })).status, 401)
    const { entries } = await scheduler.api.get<AuditList>(`/v1/audit?object=${old.key.id}`)
    assert.equal((entries.at(-1) as Record<string, unknown>).made, made.key.id)
  })

  it('never last longer for having been rotated, and are rotated by admins alone', async () => {
    await using scheduler = await TestScheduler.start()
    const old = await make(scheduler, { ttlSeconds: 60 })
    const path = `/v1/keys/${old.key.id}/rotate`
    await scheduler.api.post(path, {})
    assert.equal((await find(scheduler, old.key.id))?.expiresAt, old.key.expiresAt)
    const own = await scheduler.apiWith(old.text).failure({ method: 'POST', path, json: {} })
    assert.equal(own.details?.reason, 'low-tier')
    const none = await scheduler.api.failure({
      method: 'POST',
      path: `/v1/keys/${randomUUID()}/rotate`,
      json: {}
    })
    assert.equal(none.code, 'E_NOT_FOUND')
  })

  it('of the last admin cannot be removed while the others have expired', async () => {
    await using scheduler = await TestScheduler.start()
    const first = (await scheduler.api.get<KeyList>('/v1/keys')).keys[0]?.id ?? ''
    await make(scheduler, { tier: 'admin', ttlSeconds: 60 })
    scheduler.clock.jump(60_000)
    const failure = await scheduler.api.failure({ method: 'DELETE', path: `/v1/keys/${first}` })
    assert.equal(failure.code, 'E_CONFLICT')
  })

  it('of older releases work on, without a mask', async () => {
    await using scheduler = await TestScheduler.start()
    await scheduler.stop()
    const text = `hlk_${randomBytes(32).toString('base64url')}`
    for (const name of ['scheduler.db', 'scheduler.db-wal', 'scheduler.db-shm'])
      rmSync(join(scheduler.directory, name), { force: true })
    const database = new DatabaseSync(join(scheduler.directory, 'scheduler.db'))
    const before = mainMigrations.findIndex((sql) => sql.includes('last_four'))
    migrate(database, 'main', mainMigrations.slice(0, before))
    database
      .prepare(`INSERT INTO keys (id, hash, tier, note, created_at) VALUES (:id, :hash, 'admin', 'old', 1)`)
      .run({ id: randomUUID(), hash: secretHash(text) })
    database.close()
    await scheduler.startAgain()
    const { keys } = await scheduler.apiWith(text).get<KeyList>('/v1/keys')
    assert.deepEqual(
      keys.map(({ note, masked, secondFactor, expiresAt }) => [note, masked, secondFactor, expiresAt]),
      [['old', undefined, 'none', undefined]]
    )
  })
})
