// The agent's own database file: for one agent only, written at once, and on the disk when `durable` says so.

import { chmodSync, closeSync, existsSync, fdatasync, fdatasyncSync, fsyncSync, openSync } from 'node:fs'
import { dirname } from 'node:path'
import { DatabaseSync, type SQLOutputValue, type StatementSync } from 'node:sqlite'
import { promisify } from 'node:util'
import { asHostletError, HostletError } from '../../errors.ts'
import { CheckpointThread } from './checkpoint-thread.ts'
import { GroupSync } from './group-sync.ts'
import { migrate } from './journal-schema.ts'
import { openWithReserve } from './reserve.ts'
import { guarded } from './sqlite-errors.ts'
import { lockState, lockWaitMs } from './state-lock.ts'
import { passesMax, WalCheckpoints } from './wal-checkpoints.ts'

export type Row = Record<string, SQLOutputValue>
type Value = string | number | null

export interface DatabaseOptions {
  /** Waits until the disk has what was written to the file behind the descriptor; fdatasync unless a test says otherwise. */
  sync?(descriptor: number): Promise<void>
  /** The disk did not take what was written: the agent is to start anew. Called once. */
  onFault?(error: HostletError): void
  /** The log could not be carried over; it is tried again. */
  onTrouble?(error: unknown): void
}

const syncInPool = promisify(fdatasync)

/**
 * Every method throws HostletError: E_CAPACITY for a full disk, E_CORRUPT for a damaged file, and so on. What was written is
 * seen by every reader at once and survives the end of the process; it survives the loss of power once `durable` has resolved.
 * Why that is so is in docs/adr/0017-group-committed-journal.md.
 */
export class AgentDatabase implements Disposable, AsyncDisposable {
  readonly #lock: Disposable
  readonly #database: DatabaseSync
  readonly #log: number
  readonly #group: GroupSync
  readonly #checkpoints: WalCheckpoints
  readonly #thread: CheckpointThread
  readonly #statements = new Map<string, StatementSync>()
  readonly #pages: StatementSync

  /** Opens or makes the file (0600). Throws E_CORRUPT when it is damaged, E_UNSUPPORTED when a newer agent made it, E_BUSY when another agent has it. */
  constructor(path: string, { sync = syncInPool, onFault, onTrouble }: DatabaseOptions = {}) {
    this.#lock = lockState(path)
    try {
      this.#database = openWithReserve(path, () => guarded('open the journal', () => openDatabase(path)))
    } catch (error) {
      this.#lock[Symbol.dispose]()
      throw error
    }
    this.#pages = this.#database.prepare('PRAGMA wal_checkpoint(NOOP)')
    // POSIX: a sync through any descriptor of a file is a sync of the file. SQLite locks the other two files, not this one,
    // so closing the descriptor takes no lock away.
    this.#log = openSync(`${path}-wal`, 'r')
    this.#group = new GroupSync({
      sync: () => sync(this.#log).then(() => this.#checkpoints.look()),
      onFault: (error) => onFault?.(error)
    })
    this.#thread = new CheckpointThread({ path, passesMax })
    this.#checkpoints = new WalCheckpoints({
      pages: () => this.#logPages(),
      carryOver: () => this.#thread.carryOver(),
      onSyncFault: (error) => this.#group.fail(error),
      onTrouble: (error) => onTrouble?.(error)
    })
  }

  /** Why nothing more is taken: see `GroupSync`. */
  get fault(): HostletError | undefined {
    return this.#group.fault
  }

  /** Whether the disk has all that was written. */
  get isDurable(): boolean {
    return this.#group.isSettled
  }

  /** Resolves when the disk has all that was written before the call; many callers share one sync. Rejects with `fault`. */
  async durable(): Promise<void> {
    await this.#group.settled()
    await this.#checkpoints.pressing
  }

  /** The same, waiting on the spot: for what is rare and whose caller cannot wait otherwise. */
  syncNow(): void {
    this.#throwFault()
    try {
      fdatasyncSync(this.#log)
    } catch (error) {
      this.#group.fail(error)
      this.#throwFault()
    }
    this.#group.noteSynced()
  }

  get(sql: string, ...values: Value[]): Row | undefined {
    this.#throwFault()
    return guarded('read the journal', () => this.#prepared(sql).get(...values))
  }

  all(sql: string, ...values: Value[]): Row[] {
    this.#throwFault()
    return guarded('read the journal', () => this.#prepared(sql).all(...values))
  }

  /** Returns how many rows it changed. */
  run(sql: string, ...values: Value[]): number {
    const changes = this.#write(() => Number(this.#prepared(sql).run(...values).changes))
    if (changes > 0 && !this.#database.isTransaction) this.#group.noteWritten()
    return changes
  }

  /** All that `work` writes, or nothing of it. Within a transaction it belongs to that one. */
  transaction(work: () => void): void {
    if (this.#database.isTransaction) work()
    else this.#whole(work)
  }

  /** Ends what runs beside, then closes: the log is carried over and gone. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#checkpoints.ended()
    await this.#group.running
    this[Symbol.dispose]()
  }

  [Symbol.dispose](): void {
    if (!this.#database.isOpen) return
    this.#thread[Symbol.dispose]()
    this.#database.close()
    this.#lock[Symbol.dispose]()
    // A sync that still runs must not meet another file under its descriptor.
    void (this.#group.running ?? Promise.resolve()).then(() => closeSync(this.#log))
  }

  #whole(work: () => void): void {
    this.#write(() => this.#database.exec('BEGIN IMMEDIATE'))
    try {
      work()
      this.#write(() => this.#database.exec('COMMIT'))
      this.#group.noteWritten()
    } catch (error) {
      if (this.#database.isTransaction) this.#database.exec('ROLLBACK')
      throw error
    }
  }

  #write<Written>(work: () => Written): Written {
    this.#throwFault()
    try {
      return guarded('write to the journal', work)
    } catch (error) {
      // The head of a new log is synced before anything follows it.
      if (isSyncFault(error)) this.#group.fail(error)
      throw error
    }
  }

  #throwFault(): void {
    if (this.#group.fault !== undefined) throw this.#group.fault
  }

  #logPages(): { log: number; checkpointed: number } {
    if (!this.#database.isOpen) return { log: 0, checkpointed: 0 }
    const { log, checkpointed } = this.#pages.get() ?? {}
    return { log: Number(log), checkpointed: Number(checkpointed) }
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
  const isNew = !existsSync(path)
  const database = new DatabaseSync(path, { timeout: lockWaitMs, allowExtension: false })
  try {
    prepare(database, path)
    if (isNew) syncDirectory(dirname(dirname(path)))
    syncDirectory(dirname(path))
    return database
  } catch (error) {
    database.close()
    throw error
  }
}

function prepare(database: DatabaseSync, path: string): void {
  chmodSync(path, 0o600)
  // NORMAL: a commit does not wait for the disk, the head of a new log does. secure_delete: arguments that are forgotten are gone.
  database.exec('PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA secure_delete = ON')
  database.exec(
    'PRAGMA wal_autocheckpoint = 0; PRAGMA journal_size_limit = 8388608; PRAGMA cache_size = -512'
  )
  const health = database.prepare('PRAGMA quick_check(1)').get()
  if (health?.quick_check !== 'ok') throw new HostletError('E_CORRUPT', `${path} is damaged`)
  migrate(database)
  carryOverAll(database)
}

/**
 * What an earlier run left in the log may be in the page cache alone, and the kernel may have given up on writing it. Carried
 * over it is written anew, and synced: what this run sees, the disk has. A disk that is full keeps nobody from starting: the
 * log stays as it is, and a condition tells.
 */
function carryOverAll(database: DatabaseSync): void {
  try {
    guarded('carry the log over', () => database.exec('PRAGMA wal_checkpoint(TRUNCATE)'))
  } catch (error) {
    if (asHostletError(error).code !== 'E_CAPACITY') throw error
  }
}

function syncDirectory(path: string): void {
  const descriptor = openSync(path, 'r')
  try {
    fsyncSync(descriptor)
  } finally {
    closeSync(descriptor)
  }
}

/** SQLITE_IOERR_FSYNC and SQLITE_IOERR_DIR_FSYNC. */
function isSyncFault(error: unknown): boolean {
  const { sqlite } = asHostletError(error).details
  return sqlite === 1_034 || sqlite === 1_290
}
