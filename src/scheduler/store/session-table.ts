// Sessions in SQLite: only hashes of their tokens. When one was last used is observed, and may be lost in a crash.

import { given, page } from './rows.ts'
import type { NewSession, SessionRecord, SessionStore } from './session-store.ts'
import type { Sqlite } from './sqlite.ts'
import type { Page } from './store.ts'

interface SessionRow {
  readonly id: string
  readonly hash: Uint8Array
  readonly key: string
  readonly kind: SessionRecord['kind']
  readonly factors: SessionRecord['factors']
  readonly address: string
  readonly created_at: number
  readonly expires_at: number
  readonly idle_ms: number | null
  readonly at: number | null
}

const select =
  'SELECT sessions.*, session_uses.at FROM sessions LEFT JOIN session_uses ON session_uses.session = sessions.id'

export class SessionTable implements SessionStore {
  readonly #sqlite: Sqlite

  constructor(sqlite: Sqlite) {
    this.#sqlite = sqlite
  }

  async add({ idleMs, ...session }: NewSession, ofKeyMax: number): Promise<void> {
    this.#sqlite.transaction(() => {
      this.#sqlite.run(
        `INSERT INTO sessions (id, hash, key, kind, factors, address, created_at, expires_at, idle_ms)
         VALUES (:id, :hash, :key, :kind, :factors, :address, :createdAt, :expiresAt, :idleMs)`,
        { ...session, idleMs: idleMs ?? null }
      )
      this.#removeWhere(
        `key = :key AND id NOT IN
           (SELECT id FROM sessions WHERE key = :key ORDER BY created_at DESC, id DESC LIMIT :ofKeyMax)`,
        { key: session.key, ofKeyMax }
      )
    })
  }

  async find(id: string): Promise<SessionRecord | undefined> {
    const row = this.#sqlite.get<SessionRow>(`${select} WHERE id = :id`, { id })
    return row === undefined ? undefined : toRecord(row)
  }

  async findByHash(hash: Buffer): Promise<SessionRecord | undefined> {
    const row = this.#sqlite.get<SessionRow>(`${select} WHERE hash = :hash`, { hash })
    return row === undefined ? undefined : toRecord(row)
  }

  async list(limit: number): Promise<Page<SessionRecord>> {
    const rows = this.#sqlite.all<SessionRow>(`${select} ORDER BY created_at DESC, id DESC LIMIT :limit`, {
      limit: limit + 1
    })
    return page(rows, limit, toRecord)
  }

  async used(id: string, at: number): Promise<void> {
    this.#sqlite.run(
      'INSERT INTO session_uses (session, at) VALUES (:id, :at) ON CONFLICT (session) DO UPDATE SET at = excluded.at',
      { id, at }
    )
  }

  async remove(id: string): Promise<boolean> {
    return this.#sqlite.transaction(() => this.#removeWhere('id = :id', { id })) > 0
  }

  /** Ends those of a key that showed fewer factors, within the caller's transaction. */
  removeBelowNow(key: string, factors: number): void {
    this.#removeWhere('key = :key AND factors < :factors', { key, factors })
  }

  async forgetEnded(now: number): Promise<number> {
    return this.#sqlite.transaction(() =>
      this.#removeWhere(
        `expires_at <= :now OR coalesce((SELECT at FROM session_uses WHERE session = id), created_at) + idle_ms <= :now`,
        { now }
      )
    )
  }

  /** The condition is one of this file, never input. */
  #removeWhere(condition: string, parameters: Readonly<Record<string, string | number>>): number {
    this.#sqlite.run(
      `DELETE FROM session_uses WHERE session IN (SELECT id FROM sessions WHERE ${condition})`,
      parameters
    )
    return this.#sqlite.run(`DELETE FROM sessions WHERE ${condition}`, parameters)
  }
}

function toRecord(row: SessionRow): SessionRecord {
  return {
    id: row.id,
    hash: Buffer.from(row.hash),
    key: row.key,
    kind: row.kind,
    factors: row.factors,
    address: row.address,
    createdAt: row.created_at,
    expiresAt: row.expires_at,
    idleMs: given(row.idle_ms),
    lastUsedAt: given(row.at)
  }
}
