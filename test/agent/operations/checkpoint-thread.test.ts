// The thread that carries a log over: one for many orders, gone when nobody wants it.

import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { after, before, describe, it } from 'node:test'
import { CheckpointThread } from '../../../src/agent/operations/checkpoint-thread.ts'

describe('the thread for the log', () => {
  let directory: string
  before(() => {
    directory = mkdtempSync(join(tmpdir(), 'hostlet-thread-'))
  })
  after(() => rmSync(directory, { recursive: true }))

  it('carries over what was written since, order after order', async () => {
    const path = join(directory, 'some.db')
    using database = new DatabaseSync(path)
    database.exec('PRAGMA journal_mode = WAL; PRAGMA wal_autocheckpoint = 0; CREATE TABLE t (text TEXT)')
    using thread = new CheckpointThread({ path, passesMax: 16 })
    let before = statSync(path).size
    for (let round = 1; round <= 3; round++) {
      database.prepare('INSERT INTO t VALUES (?)').run('x'.repeat(100_000))
      assert.deepEqual(await thread.carryOver(), { isComplete: true })
      const { size } = statSync(path)
      assert.ok(size >= before + 90_000, `${size} after ${before}`)
      before = size
    }
  })

  it('says what is wrong with a file that is no database, and goes on', async () => {
    const path = join(directory, 'none.db')
    writeFileSync(path, 'not a database, but long enough to be taken for one'.repeat(100))
    using thread = new CheckpointThread({ path, passesMax: 16 })
    for (let round = 1; round <= 2; round++) {
      const { isComplete, fault } = await thread.carryOver()
      assert.deepEqual([isComplete, fault?.errcode], [false, 26])
    }
  })

  it('ends with whoever had it, also in the middle of an order', async () => {
    const path = join(directory, 'other.db')
    const thread = new CheckpointThread({ path, passesMax: 16 })
    const order = thread.carryOver()
    thread[Symbol.dispose]()
    await assert.rejects(order, { code: 'E_INTERNAL' })
  })
})
