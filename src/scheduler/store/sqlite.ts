// SQLite as the stores use it: two files (what was promised, flushed at each commit; what was observed, flushed now and then), statements kept, transactions, and its errors as ours.

import { chmodSync, closeSync, openSync } from 'node:fs'
import { join } from 'node:path'
import { DatabaseSync, type SQLInputValue, type StatementSync } from 'node:sqlite'
import { HostletError } from '../../errors.ts'
import { privateFileMode } from '../../lib/private-file.ts'
import { assertMigrated, migrate } from './migrate.ts'
import { mainMigrations, observedMigrations } from './migrations.ts'

export type Parameters = Readonly<Record<string, SQLInputValue>>

/** SQLite's result codes (sqlite.org/rescode.html). */
const resultCodes = { busy: 5, corrupt: 11, full: 13, constraint: 19, notDatabase: 26 } as const

export interface SqliteOptions {
  /** For who works beside the scheduler: throws E_UNSUPPORTED instead of changing files of an older release. */
  readonly isGuest?: boolean
}

export class Sqlite {
  readonly #database: DatabaseSync
  readonly #statements = new Map<string, StatementSync>()

  /** Opens or makes `scheduler.db` and `observed.db` in the directory. Throws E_CORRUPT, E_UNSUPPORTED for files of a newer release. */
  constructor(directory: string, { isGuest = false }: SqliteOptions = {}) {
    const main = makePrivate(join(directory, 'scheduler.db'))
    const observed = makePrivate(join(directory, 'observed.db'))
    this.#database = guarded(() => openBoth(main, observed, isGuest))
  }

  run(sql: string, parameters: Parameters = {}): number {
    return guarded(() => Number(this.#prepare(sql).run(parameters).changes))
  }

  /** The caller names the row's type: the schema is ours, in migrations.ts. */
  get<Row>(sql: string, parameters: Parameters = {}): Row | undefined {
    return guarded(() => this.#prepare(sql).get(parameters) as Row | undefined)
  }

  all<Row>(sql: string, parameters: Parameters = {}): Row[] {
    return guarded(() => this.#prepare(sql).all(parameters) as Row[])
  }

  /** All of it or nothing. Each of the two files is atomic by itself. */
  transaction<Value>(work: () => Value): Value {
    this.run('BEGIN IMMEDIATE')
    try {
      const value = work()
      this.run('COMMIT')
      return value
    } catch (error) {
      if (this.#database.isTransaction) this.run('ROLLBACK')
      throw error
    }
  }

  /** Changes with each commit of another connection to either file, and with nothing else (sqlite.org/pragma.html). */
  changesOfOthers(): string {
    const versions = ['main', 'observed'].map((schema) =>
      this.get<{ data_version: number }>(`PRAGMA ${schema}.data_version`)
    )
    return versions.map((row) => row?.data_version).join('.')
  }

  close(): void {
    this.#statements.clear()
    this.#database.close()
  }

  #prepare(sql: string): StatementSync {
    const known = this.#statements.get(sql)
    if (known !== undefined) return known
    const statement = this.#database.prepare(sql)
    this.#statements.set(sql, statement)
    return statement
  }
}

export function isConstraintFault(error: unknown): boolean {
  return error instanceof HostletError && resultCodeOf(error.cause) === resultCodes.constraint
}

function openBoth(main: string, observed: string, isGuest: boolean): DatabaseSync {
  const database = new DatabaseSync(main, { timeout: 5_000, enableForeignKeyConstraints: true })
  try {
    database.prepare('ATTACH :path AS observed').run({ path: observed })
    database.exec('PRAGMA main.journal_mode = WAL; PRAGMA observed.journal_mode = WAL')
    database.exec('PRAGMA main.synchronous = FULL; PRAGMA observed.synchronous = NORMAL')
    // What is deleted is overwritten: a destroyed key's wrapping, the text of a command.
    database.exec('PRAGMA main.secure_delete = ON')
    const bringUp = isGuest ? assertMigrated : migrate
    bringUp(database, 'main', mainMigrations)
    bringUp(database, 'observed', observedMigrations)
    return database
  } catch (error) {
    database.close()
    throw error
  }
}

/** The store holds commands with what their senders put in: nobody else reads it. */
function makePrivate(path: string): string {
  closeSync(openSync(path, 'a', privateFileMode))
  chmodSync(path, privateFileMode)
  return path
}

function guarded<Value>(work: () => Value): Value {
  try {
    return work()
  } catch (cause) {
    throw cause instanceof HostletError ? cause : storeError(cause)
  }
}

function storeError(cause: unknown): HostletError {
  const code = resultCodeOf(cause)
  if (code === resultCodes.full)
    return new HostletError('E_CAPACITY', "the disk of the scheduler's store is full. Free some space.", {
      cause
    })
  if (code === resultCodes.busy)
    return new HostletError('E_BUSY', 'the store is held by another process. Try again.', { cause })
  if (code === resultCodes.corrupt || code === resultCodes.notDatabase)
    return new HostletError('E_CORRUPT', "the scheduler's store is damaged. Restore it from a backup.", {
      cause
    })
  return new HostletError('E_INTERNAL', 'the store refused a statement', { cause, details: { result: code } })
}

/** The primary result code: its low byte, whatever the extended one adds. */
function resultCodeOf(cause: unknown): number {
  const code = cause instanceof Error && 'errcode' in cause ? Number(cause.errcode) : 0
  return code & 0xff
}
