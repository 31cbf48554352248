// Disks' keys in SQLite: the wrappings as hosts sent them, overwritten in the file when a key is destroyed.

import type { EscrowedKey, GoneKey, GrantedKey } from '../../protocol/keys.ts'
import type { DiskKeyFilter, DiskKeyRecord, DiskKeyStore, KeyGrant, KeyHold } from './disk-key-store.ts'
import { fromJson, fromJsonOrNull, given, page } from './rows.ts'
import type { Sqlite } from './sqlite.ts'
import type { Page } from './store.ts'

interface KeyRow {
  readonly id: string
  readonly vm: string
  readonly uuid: string
  readonly host: string
  readonly volume: string
  readonly created_at: number
  readonly stored_at: number
  readonly recovery: string | null
  readonly wrapped: string | null
  readonly granted_at: number | null
  readonly removed_at: number | null
}

/** VMs of one name that are looked at. */
const namesakesMax = 64

export class DiskKeyTable implements DiskKeyStore {
  readonly #sqlite: Sqlite

  constructor(sqlite: Sqlite) {
    this.#sqlite = sqlite
  }

  async keep(host: string, key: EscrowedKey, at: number): Promise<string | undefined> {
    return this.#sqlite.transaction(() => {
      const { id, uuid } = key
      const before = this.#find(id)
      if (!this.#mayTell(host, uuid)) return `VM ${key.vm} belongs to another host here`
      if (before !== undefined && before.uuid !== uuid) return 'the key is that of another VM here'
      if (before !== undefined && before.removed_at !== null) return 'the key was destroyed'
      this.#insert(host, key, at)
      return undefined
    })
  }

  async remove(host: string, { id, uuid }: GoneKey, at: number): Promise<boolean> {
    const changes = this.#sqlite.transaction(() => {
      const mine = this.#mayEnd(host, uuid, id)
      if (mine === undefined) return undefined
      const count = this.#sqlite.run(
        `UPDATE disk_keys SET recovery = NULL, wrapped = NULL, removed_at = :at
         WHERE uuid = :uuid AND (:id IS NULL OR id = :id) AND (:all OR host = :host) AND removed_at IS NULL`,
        { id: id ?? null, uuid, at, host, all: mine === 'all' ? 1 : 0 }
      )
      this.#sqlite.run(
        `DELETE FROM disk_key_holds WHERE uuid = :uuid AND NOT EXISTS
           (SELECT 1 FROM disk_keys WHERE uuid = :uuid AND removed_at IS NULL)`,
        { uuid }
      )
      return count
    })
    // Pages are overwritten at once, but the log keeps their earlier versions until it is emptied.
    if (changes) this.#sqlite.get('PRAGMA main.wal_checkpoint(TRUNCATE)')
    return changes !== undefined
  }

  async grant(host: string, ids: readonly string[], at: number): Promise<KeyGrant> {
    return this.#sqlite.transaction(() => {
      const granted: GrantedKey[] = []
      const denied: KeyGrant['denied'][number][] = []
      for (const id of ids) {
        const row = this.#find(id)
        if (row === undefined || row.wrapped === null || !this.#mayTell(host, row.uuid))
          denied.push({ id, reason: 'unknown' })
        else if (this.#holdOf(row.uuid) !== undefined) denied.push({ id, reason: 'withheld' })
        else {
          granted.push(grantOf(row, row.wrapped))
          this.#sqlite.run('UPDATE disk_keys SET granted_at = :at WHERE id = :id', { id, at })
        }
      }
      return { granted, denied }
    })
  }

  async list({ uuid, host, removed = false }: DiskKeyFilter, limit: number): Promise<Page<DiskKeyRecord>> {
    const rows = this.#sqlite.all<KeyRow>(
      `SELECT * FROM disk_keys WHERE (:uuid IS NULL OR uuid = :uuid) AND (:host IS NULL OR host = :host)
         AND (:removed OR removed_at IS NULL) ORDER BY vm, uuid, volume, created_at DESC LIMIT :limit`,
      { uuid: uuid ?? null, host: host ?? null, removed: removed ? 1 : 0, limit: limit + 1 }
    )
    return page(rows, limit, toRecord)
  }

  async uuidsNamed(vm: string): Promise<readonly string[]> {
    return this.#sqlite
      .all<{ uuid: string }>(
        `SELECT uuid FROM disk_keys WHERE vm = :vm AND removed_at IS NULL
         GROUP BY uuid ORDER BY max(stored_at) DESC LIMIT ${namesakesMax}`,
        { vm }
      )
      .map(({ uuid }) => uuid)
  }

  async holdOf(uuid: string): Promise<KeyHold | undefined> {
    return this.#holdOf(uuid)
  }

  async hold(uuid: string, hold: KeyHold | undefined): Promise<void> {
    if (hold === undefined) this.#sqlite.run('DELETE FROM disk_key_holds WHERE uuid = :uuid', { uuid })
    else
      this.#sqlite.run(
        `INSERT INTO disk_key_holds (uuid, withheld_at, withheld_by) VALUES (:uuid, :at, :by)
         ON CONFLICT (uuid) DO NOTHING`,
        { uuid, ...hold }
      )
  }

  #find(id: string): KeyRow | undefined {
    return this.#sqlite.get<KeyRow>('SELECT * FROM disk_keys WHERE id = :id', { id })
  }

  #holdOf(uuid: string): KeyHold | undefined {
    return this.#sqlite.get<KeyHold>(
      'SELECT withheld_at AS at, withheld_by AS by FROM disk_key_holds WHERE uuid = :uuid',
      { uuid }
    )
  }

  #insert(host: string, key: EscrowedKey, at: number): void {
    const { id, vm, uuid, volume, createdAt, recovery, host: wrapped } = key
    this.#sqlite.run(
      `INSERT INTO disk_keys (id, vm, uuid, host, volume, created_at, stored_at, recovery, wrapped)
       VALUES (:id, :vm, :uuid, :host, :volume, :createdAt, :at, :recovery, :wrapped)
       ON CONFLICT (id) DO UPDATE SET vm = excluded.vm, host = excluded.host, volume = excluded.volume,
         stored_at = excluded.stored_at, recovery = coalesce(excluded.recovery, recovery), wrapped = excluded.wrapped`,
      {
        ...{ id, vm, uuid, host, volume, createdAt, at },
        recovery: recovery === undefined ? null : JSON.stringify(recovery),
        wrapped: wrapped === undefined ? null : JSON.stringify(wrapped)
      }
    )
  }

  /**
   * Which keys of the VM the host may have destroyed: what it told of itself, or was told to tear down. Those of a revoked
   * host may be all that still opens the VM's disks: the host that has the VM now ends one by its id, which stands in the
   * VM's definition; to say that it has the VM is not enough.
   */
  #mayEnd(host: string, uuid: string, id?: string): 'all' | 'own' | undefined {
    const vm = this.#sqlite.get<{ host: string }>('SELECT host FROM vms WHERE uuid = :uuid', { uuid })
    if (vm !== undefined && vm.host !== host) return undefined
    if (vm !== undefined) return id === undefined ? 'own' : 'all'
    const { others, own } = this.#sqlite.get<{ others: number | null; own: number | null }>(
      `SELECT sum(host != :host) AS others, sum(host = :host) AS own FROM disk_keys
       WHERE uuid = :uuid AND (:id IS NULL OR id = :id) AND removed_at IS NULL`,
      { host, uuid, id: id ?? null }
    ) ?? { others: null, own: null }
    return others && !own ? undefined : 'own'
  }

  /** The VM's own host; for a VM that is not known here the one that told of its keys before; in place of a revoked one any. */
  #mayTell(host: string, uuid: string): boolean {
    const owner = this.#sqlite.get<{ host: string; revoked_at: number | null }>(
      `SELECT owner.host, hosts.revoked_at FROM (SELECT host, 1 AS rank, 0 AS at FROM vms WHERE uuid = :uuid
         UNION ALL SELECT host, 2, stored_at FROM disk_keys WHERE uuid = :uuid AND removed_at IS NULL) AS owner
       LEFT JOIN hosts ON hosts.id = owner.host ORDER BY rank, at DESC LIMIT 1`,
      { uuid }
    )
    return owner === undefined || owner.host === host || owner.revoked_at !== null
  }
}

function grantOf({ id, vm, uuid, volume, created_at: createdAt }: KeyRow, wrapped: string): GrantedKey {
  return { id, vm, uuid, volume, createdAt, host: fromJson(wrapped) }
}

function toRecord(row: KeyRow): DiskKeyRecord {
  return {
    id: row.id,
    vm: row.vm,
    uuid: row.uuid,
    host: row.host,
    volume: row.volume,
    createdAt: row.created_at,
    storedAt: row.stored_at,
    recovery: fromJsonOrNull(row.recovery),
    wrapped: fromJsonOrNull(row.wrapped),
    grantedAt: given(row.granted_at),
    removedAt: given(row.removed_at)
  }
}
