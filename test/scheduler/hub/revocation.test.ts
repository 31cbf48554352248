// Revoked elsewhere: another process, or somebody who writes to the store, ends a host's connection here within a second.

import assert from 'node:assert/strict'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { afterEach, beforeEach, describe, it } from 'node:test'
import { standingIntervalMs } from '../../../src/scheduler/hub/hub.ts'
import type { TestAgent } from '../support/test-agent.ts'
import { TestScheduler } from '../support/test-scheduler.ts'
import { TestStore } from '../support/test-store.ts'

describe('a host that is revoked elsewhere', { timeout: 60_000 }, () => {
  let scheduler: TestScheduler
  let doomed: TestAgent
  let other: TestAgent

  beforeEach(async () => {
    scheduler = await TestScheduler.start()
    doomed = await scheduler.enroll('doomed')
    other = await scheduler.enroll('other')
    await doomed.connect()
    await other.connect()
  })
  afterEach(() => scheduler[Symbol.asyncDispose]())

  function write(sql: string, ...values: string[]): void {
    const database = new DatabaseSync(join(scheduler.directory, 'scheduler.db'))
    database.exec(`ATTACH '${join(scheduler.directory, 'observed.db')}' AS observed`)
    database.prepare(sql).run(...values)
    database.close()
  }

  it('loses its connection within a second, and no other host does', async () => {
    const closed = doomed.closed()
    write('UPDATE hosts SET revoked_at = 1 WHERE id = ?', doomed.id)
    assert.ok(standingIntervalMs <= 500)
    await scheduler.clock.advance(1_000)
    assert.deepEqual(await closed, { code: 4003, reason: 'the host was revoked' })
    await other.sync()
  })

  it('loses a connection that has not said hello yet', async () => {
    await other.disconnect()
    await other.dial()
    const closed = other.closed()
    write('UPDATE hosts SET revoked_at = 1 WHERE id = ?', other.id)
    await scheduler.clock.advance(1_000)
    assert.equal((await closed).code, 4003)
    await doomed.sync()
  })

  it('loses it also when its record is gone altogether', async () => {
    const closed = doomed.closed()
    write('DELETE FROM hosts WHERE id = ?', doomed.id)
    await scheduler.clock.advance(1_000)
    assert.equal((await closed).code, 4003)
  })

  it('gives way when it has said hello to another process since', async () => {
    const closed = doomed.closed()
    write("UPDATE observed.host_reports SET connection = 'elsewhere' WHERE host = ?", doomed.id)
    await scheduler.clock.advance(1_000)
    assert.equal((await closed).code, 4008)
    await other.sync()
  })
})

it('the store tells writes of other processes from its own, so that nothing is looked at without need', async () => {
  await using test = new TestStore()
  const id = await test.host('kvm-1')
  await test.store.changedByOthers()
  await test.store.hosts.cloned(id, 1)
  assert.equal(await test.store.changedByOthers(), false)
  const other = new DatabaseSync(join(test.directory, 'scheduler.db'))
  other.prepare('UPDATE hosts SET revoked_at = 1 WHERE id = ?').run(id)
  other.close()
  assert.equal(await test.store.changedByOthers(), true)
  assert.equal(await test.store.changedByOthers(), false)
})
