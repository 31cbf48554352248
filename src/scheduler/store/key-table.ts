// API keys in SQLite: only their hashes.

import { HostletError } from '../../errors.ts'
import { given, page } from './rows.ts'
import type { Sqlite } from './sqlite.ts'
import type { KeyRecord, KeyStore, Page } from './store.ts'

interface KeyRow {
  readonly id: string
  readonly hash: Uint8Array
  readonly tier: KeyRecord['tier']
  readonly note: string
  readonly created_at: number
  readonly at: number | null
}

const select = 'SELECT keys.*, key_uses.at FROM keys LEFT JOIN key_uses ON key_uses.key = keys.id'

export class KeyTable implements KeyStore {
  readonly #sqlite: Sqlite

  constructor(sqlite: Sqlite) {
    this.#sqlite = sqlite
  }

  async add(key: Omit<KeyRecord, 'lastUsedAt'>): Promise<void> {
    this.#sqlite.run(
      'INSERT INTO keys (id, hash, tier, note, created_at) VALUES (:id, :hash, :tier, :note, :createdAt)',
      { ...key }
    )
  }

  async list(limit: number): Promise<Page<KeyRecord>> {
    const rows = this.#sqlite.all<KeyRow>(`${select} ORDER BY created_at, id LIMIT :limit`, {
      limit: limit + 1
    })
    return page(rows, limit, toRecord)
  }

  async findByHash(hash: Buffer): Promise<KeyRecord | undefined> {
    const row = this.#sqlite.get<KeyRow>(`${select} WHERE hash = :hash`, { hash })
    return row === undefined ? undefined : toRecord(row)
  }

  async used(id: string, at: number): Promise<void> {
    this.#sqlite.run(
      'INSERT INTO key_uses (key, at) VALUES (:id, :at) ON CONFLICT (key) DO UPDATE SET at = excluded.at',
      { id, at }
    )
  }

  async remove(id: string): Promise<boolean> {
    return this.#sqlite.transaction(() => {
      const others = this.#sqlite.get<{ admins: number }>(
        `SELECT count(*) AS admins FROM keys WHERE tier = 'admin' AND id <> :id`,
        { id }
      )
      if (others?.admins === 0 && this.#isAdmin(id))
        throw new HostletError(
          'E_CONFLICT',
          'this is the last admin key. Make another one first: without one nobody can add hosts or keys.'
        )
      this.#sqlite.run('DELETE FROM key_uses WHERE key = :id', { id })
      return this.#sqlite.run('DELETE FROM keys WHERE id = :id', { id }) > 0
    })
  }

  /** Drops a key whose text was lost before anyone saw it, even when it is the last. */
  async forget(id: string): Promise<void> {
    this.#sqlite.run('DELETE FROM keys WHERE id = :id', { id })
  }

  async count(): Promise<number> {
    return this.#sqlite.get<{ keys: number }>('SELECT count(*) AS keys FROM keys')?.keys ?? 0
  }

  #isAdmin(id: string): boolean {
    return (
      this.#sqlite.get<{ tier: string }>('SELECT tier FROM keys WHERE id = :id', { id })?.tier === 'admin'
    )
  }
}

function toRecord(row: KeyRow): KeyRecord {
  return {
    id: row.id,
    hash: Buffer.from(row.hash),
    tier: row.tier,
    note: row.note,
    createdAt: row.created_at,
    lastUsedAt: given(row.at)
  }
}
