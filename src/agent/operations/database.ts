// The agent's own database file: opened for one agent only, every write on disk when it returns.

import { chmodSync } from 'node:fs'
import { DatabaseSync, type SQLOutputValue, type StatementSync } from 'node:sqlite'
import { HostletError } from '../../errors.ts'
import { migrate } from './journal-schema.ts'
import { guarded } from './sqlite-errors.ts'

/** How long the file's lock may take: an agent that was just killed still holds it for a moment. */
const lockWaitMs = 2_000

export type Row = Record<string, SQLOutputValue>
type Value = string | number | null

/** Every method throws HostletError: E_CAPACITY for a full disk, E_CORRUPT for a damaged file, and so on. */
export class AgentDatabase implements Disposable {
  readonly #database: DatabaseSync
  readonly #statements = new Map<string, StatementSync>()

  /** Opens or makes the file (0600). Throws E_CORRUPT when it is damaged, E_UNSUPPORTED when a newer agent made it, E_BUSY when another agent has it. */
  constructor(path: string) {
    this.#database = guarded('open the journal', () => openDatabase(path))
  }

  get(sql: string, ...values: Value[]): Row | undefined {
    return guarded('read the journal', () => this.#prepared(sql).get(...values))
  }

  all(sql: string, ...values: Value[]): Row[] {
    return guarded('read the journal', () => this.#prepared(sql).all(...values))
  }

  /** Returns how many rows it changed. */
  run(sql: string, ...values: Value[]): number {
    return guarded('write to the journal', () => Number(this.#prepared(sql).run(...values).changes))
  }

  /** All that `work` writes, or nothing of it. Within a transaction it belongs to that one. */
  transaction(work: () => void): void {
    if (this.#database.isTransaction) work()
    else this.#whole(work)
  }

  [Symbol.dispose](): void {
    if (this.#database.isOpen) this.#database.close()
  }

  #whole(work: () => void): void {
    guarded('write to the journal', () => this.#database.exec('BEGIN IMMEDIATE'))
    try {
      work()
      guarded('write to the journal', () => this.#database.exec('COMMIT'))
    } catch (error) {
      if (this.#database.isTransaction) this.#database.exec('ROLLBACK')
      throw error
    }
  }

  #prepared(sql: string): StatementSync {
    const known = this.#statements.get(sql)
    if (known !== undefined) return known
    const statement = this.#database.prepare(sql)
    this.#statements.set(sql, statement)
    return statement
  }
}

function openDatabase(path: string): DatabaseSync {
  const database = new DatabaseSync(path, { timeout: lockWaitMs, allowExtension: false })
  chmodSync(path, 0o600)
  // EXCLUSIVE: one agent a state directory; the lock goes with its process, however that ends.
  database.exec('PRAGMA locking_mode = EXCLUSIVE')
  // FULL: in WAL mode only this waits for the disk at every commit. secure_delete: arguments that are forgotten are gone.
  database.exec('PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA secure_delete = ON')
  database.exec('PRAGMA journal_size_limit = 8388608; PRAGMA cache_size = -512')
  const health = database.prepare('PRAGMA quick_check(1)').get()
  if (health?.quick_check !== 'ok') throw new HostletError('E_CORRUPT', `${path} is damaged`)
  migrate(database)
  return database
}
