// What the agent remembers of keys that lie at the scheduler: which it has told, as they are now, and which end it still has to tell. No key is in it.

import type { GoneKey } from '../../protocol/keys.ts'
import type { AgentDatabase, Row } from '../operations/database.ts'

export interface EscrowedDisk {
  readonly id: string
  readonly vm: string
  /** Of the VM. */
  readonly uuid: string
  readonly volume: string
  readonly createdAt: number
}

/** Thumbprints of the keys that what the scheduler has stored last is wrapped for. */
export interface EscrowRecipients {
  readonly recovery: readonly string[]
  /** The host's own, where it keeps none of its disks' keys. */
  readonly host?: string
}

export interface EscrowEntry extends EscrowedDisk {
  /** Grows each time that something else is to be told. */
  readonly revision: number
  /** The one that the scheduler has stored last; 0 for none. */
  readonly told: number
  readonly recipients: EscrowRecipients
  /** Since when it waits to be told. */
  readonly since: number
  /** Why the scheduler did not take it, or it could not be told. */
  readonly fault: string | undefined
}

export class EscrowRecords {
  readonly #database: AgentDatabase

  constructor({ database }: { readonly database: AgentDatabase }) {
    this.#database = database
  }

  /** Something of the key is new: it is to be told. Returns the revision. */
  note({ id, vm, uuid, volume, createdAt }: EscrowedDisk, now: number): number {
    this.#database.run(
      `INSERT INTO disk_key_escrow (id, vm, uuid, volume, created_at, revision, told, recipients, since)
         VALUES (?, ?, ?, ?, ?, 1, 0, '{"recovery":[]}', ?) ON CONFLICT (id) DO UPDATE SET vm = excluded.vm,
           volume = excluded.volume, revision = revision + 1,
           since = CASE WHEN told < revision THEN since ELSE excluded.since END, fault = NULL`,
      id,
      vm,
      uuid,
      volume,
      createdAt,
      now
    )
    return Number(this.#database.get('SELECT revision FROM disk_key_escrow WHERE id = ?', id)?.revision ?? 1)
  }

  find(id: string): EscrowEntry | undefined {
    const row = this.#database.get('SELECT * FROM disk_key_escrow WHERE id = ?', id)
    return row && entryOf(row)
  }

  all(): EscrowEntry[] {
    return this.#database.all('SELECT * FROM disk_key_escrow ORDER BY vm, id').map(entryOf)
  }

  /** Those to be told, the oldest first; those that could not be told before only where they are asked for. */
  pending(limit: number, { failed = true }: { failed?: boolean } = {}): EscrowEntry[] {
    return this.#database
      .all(
        'SELECT * FROM disk_key_escrow WHERE told < revision AND (? OR fault IS NULL) ORDER BY since, id LIMIT ?',
        failed ? 1 : 0,
        limit
      )
      .map(entryOf)
  }

  /** The scheduler has stored this revision, wrapped for these recovery keys. */
  stored(id: string, revision: number, recipients: EscrowRecipients): void {
    this.#database.run(
      'UPDATE disk_key_escrow SET told = ?, recipients = ?, fault = NULL WHERE id = ? AND told < ? AND revision >= ?',
      revision,
      JSON.stringify(recipients),
      id,
      revision,
      revision
    )
  }

  failed(id: string, fault: string): void {
    this.#database.run('UPDATE disk_key_escrow SET fault = ? WHERE id = ?', fault, id)
  }

  /** Destroyed, or about to be: told until acknowledged, and on the disk when it returns. Returns the ids of those that were known. */
  gone({ uuid, id }: GoneKey, now: number): string[] {
    const known = this.#database
      .all(
        'SELECT id FROM disk_key_escrow WHERE uuid = ? AND (? IS NULL OR id = ?)',
        uuid,
        id ?? null,
        id ?? null
      )
      .map((row) => String(row.id))
    this.#database.transaction(() => {
      for (const each of known) this.#database.run('DELETE FROM disk_key_escrow WHERE id = ?', each)
      this.#database.run(
        `INSERT INTO disk_keys_gone (uuid, id, since) VALUES (?, ?, ?)
           ON CONFLICT (uuid, id) DO NOTHING`,
        uuid,
        id ?? '',
        now
      )
    })
    this.#database.syncNow()
    return known
  }

  /** Resolves when the disk has what was noted: the scheduler is told of nothing that this host could forget. */
  durable(): Promise<void> {
    return this.#database.durable()
  }

  goneToTell(limit: number): GoneKey[] {
    return this.#database
      .all('SELECT uuid, id FROM disk_keys_gone ORDER BY since, uuid, id DESC LIMIT ?', limit)
      .map(({ uuid, id }) => ({ uuid: String(uuid), ...(id !== '' && { id: String(id) }) }))
  }

  /** The scheduler has nothing left of it. */
  forget({ uuid, id }: GoneKey): void {
    this.#database.run('DELETE FROM disk_keys_gone WHERE uuid = ? AND id = ?', uuid, id ?? '')
  }
}

function entryOf(row: Row): EscrowEntry {
  return {
    id: String(row.id),
    vm: String(row.vm),
    uuid: String(row.uuid),
    volume: String(row.volume),
    createdAt: Number(row.created_at),
    revision: Number(row.revision),
    told: Number(row.told),
    recipients: JSON.parse(String(row.recipients)),
    since: Number(row.since),
    fault: row.fault === null ? undefined : String(row.fault)
  }
}
