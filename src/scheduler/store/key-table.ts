// API keys in SQLite: only their hashes.

import { HostletError } from '../../errors.ts'
import type { NewKey } from './key-store.ts'
import { given, page } from './rows.ts'
import type { Sqlite } from './sqlite.ts'
import type { KeyRecord, KeyStore, Page } from './store.ts'

interface KeyRow {
  readonly id: string
  readonly hash: Uint8Array
  readonly tier: KeyRecord['tier']
  readonly note: string
  readonly created_at: number
  readonly owner: string
  readonly last_four: string | null
  readonly expires_at: number | null
  readonly is_machine: number
  readonly needs_factor: number
  readonly at: number | null
  readonly address: string | null
  readonly confirmed_at: number | null
}

/** Keys that are named at once as ending soon. */
const endingMax = 100

const select = `SELECT keys.*, key_uses.at, key_uses.address, second_factors.confirmed_at FROM keys
  LEFT JOIN key_uses ON key_uses.key = keys.id LEFT JOIN second_factors ON second_factors.key = keys.id`

export class KeyTable implements KeyStore {
  readonly #sqlite: Sqlite

  constructor(sqlite: Sqlite) {
    this.#sqlite = sqlite
  }

  async add({ lastFour, expiresAt, isMachine, needsFactor, ...key }: NewKey): Promise<void> {
    this.#sqlite.run(
      `INSERT INTO keys (id, hash, tier, note, created_at, owner, last_four, expires_at, is_machine, needs_factor)
       VALUES (:id, :hash, :tier, :note, :createdAt, :owner, :lastFour, :expiresAt, :isMachine, :needsFactor)`,
      {
        ...{ ...key, lastFour: lastFour ?? null, expiresAt: expiresAt ?? null },
        ...{ isMachine: Number(isMachine), needsFactor: Number(needsFactor) }
      }
    )
  }

  async list(limit: number): Promise<Page<KeyRecord>> {
    const rows = this.#sqlite.all<KeyRow>(`${select} ORDER BY keys.created_at, keys.id LIMIT :limit`, {
      limit: limit + 1
    })
    return page(rows, limit, toRecord)
  }

  async find(id: string): Promise<KeyRecord | undefined> {
    const row = this.#sqlite.get<KeyRow>(`${select} WHERE keys.id = :id`, { id })
    return row === undefined ? undefined : toRecord(row)
  }

  async findByHash(hash: Buffer): Promise<KeyRecord | undefined> {
    const row = this.#sqlite.get<KeyRow>(`${select} WHERE hash = :hash`, { hash })
    return row === undefined ? undefined : toRecord(row)
  }

  async used(id: string, { at, from }: { at: number; from: string }): Promise<void> {
    this.#sqlite.run(
      `INSERT INTO key_uses (key, at, address) VALUES (:id, :at, :from)
       ON CONFLICT (key) DO UPDATE SET at = excluded.at, address = excluded.address`,
      { id, at, from }
    )
  }

  async expireAt(id: string, expiresAt: number): Promise<boolean> {
    return this.#sqlite.run('UPDATE keys SET expires_at = :expiresAt WHERE id = :id', { id, expiresAt }) > 0
  }

  async remove(id: string, now: number): Promise<boolean> {
    return this.#sqlite.transaction(() => {
      const others = this.#sqlite.get<{ admins: number }>(
        `SELECT count(*) AS admins FROM keys
         WHERE tier = 'admin' AND id <> :id AND (expires_at IS NULL OR expires_at > :now)`,
        { id, now }
      )
      if (others?.admins === 0 && this.#isAdmin(id))
        throw new HostletError(
          'E_CONFLICT',
          'this is the last admin key. Make another one first: without one nobody can add hosts or keys.'
        )
      this.#sqlite.run('DELETE FROM key_uses WHERE key = :id', { id })
      this.#sqlite.run(
        'DELETE FROM session_uses WHERE session IN (SELECT id FROM sessions WHERE key = :id)',
        {
          id
        }
      )
      return this.#sqlite.run('DELETE FROM keys WHERE id = :id', { id }) > 0
    })
  }

  async endingBetween(from: number, to: number): Promise<readonly KeyRecord[]> {
    return this.#sqlite
      .all<KeyRow>(`${select} WHERE expires_at > :from AND expires_at <= :to LIMIT :limit`, {
        ...{ from, to, limit: endingMax }
      })
      .map(toRecord)
  }

  async forgetExpired(before: number): Promise<number> {
    return this.#sqlite.transaction(() => {
      this.#sqlite.run('DELETE FROM key_uses WHERE key IN (SELECT id FROM keys WHERE expires_at < :before)', {
        before
      })
      return this.#sqlite.run('DELETE FROM keys WHERE expires_at < :before', { before })
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
    owner: row.owner,
    lastFour: given(row.last_four),
    expiresAt: given(row.expires_at),
    isMachine: row.is_machine === 1,
    needsFactor: row.needs_factor === 1,
    lastUsedAt: given(row.at),
    lastUsedFrom: given(row.address),
    hasFactor: row.confirmed_at !== null
  }
}
