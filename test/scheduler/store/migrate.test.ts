// Files of the store that two processes bring up at the same moment, and who only comes to visit.

import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { describe, it } from 'node:test'
import { migrate } from '../../../src/scheduler/store/migrate.ts'

const migrations = [
  'CREATE TABLE things (id TEXT)',
  'ALTER TABLE things ADD COLUMN name TEXT',
  'ALTER TABLE things ADD COLUMN size INTEGER'
]

/** A database of which another process does something between the first statement that is made and the next. */
class Overtaken extends DatabaseSync {
  #meanwhile: (() => void) | undefined

  constructor(path: string, meanwhile: () => void) {
    super(path)
    this.#meanwhile = meanwhile
  }

  override prepare(sql: string) {
    const statement = super.prepare(sql)
    const row = statement.get()
    const meanwhile = this.#meanwhile
    this.#meanwhile = undefined
    meanwhile?.()
    // What it said before the other came.
    if (meanwhile !== undefined) Object.defineProperty(statement, 'get', { value: () => row })
    return statement
  }
}

function inFile(work: (path: string) => void): void {
  const directory = mkdtempSync(join(tmpdir(), 'hostlet-migrate-'))
  try {
    work(join(directory, 'scheduler.db'))
  } finally {
    rmSync(directory, { recursive: true, force: true })
  }
}

function columnsOf(path: string): unknown[] {
  using database = new DatabaseSync(path)
  const { user_version: version } = database.prepare('PRAGMA user_version').get() ?? {}
  return [
    version,
    ...database
      .prepare('PRAGMA table_info(things)')
      .all()
      .map(({ name }) => name)
  ]
}

describe('migrations', () => {
  for (const ahead of [1, 2, 3])
    it(`are done once when another process has done ${ahead} of them meanwhile`, () =>
      inFile((path) => {
        using database = new Overtaken(path, () => {
          using other = new DatabaseSync(path)
          migrate(other, 'main', migrations.slice(0, ahead))
        })
        migrate(database, 'main', migrations)
        assert.deepEqual(columnsOf(path), [3, 'id', 'name', 'size'])
      }))

  it('that fail leave the file as the one before left it, and no transaction open', () =>
    inFile((path) => {
      using database = new DatabaseSync(path)
      const broken = [migrations[0] ?? '', 'ALTER TABLE things ADD COLUMN name TEXT; SELECT nothing']
      assert.throws(() => migrate(database, 'main', broken), /nothing/)
      assert.equal(database.isTransaction, false)
      assert.deepEqual(columnsOf(path), [1, 'id'])
    }))
})
