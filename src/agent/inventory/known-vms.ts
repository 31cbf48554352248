// VMs that this host has had: what proves later that a leftover is its own, and tells a VM that came without a record of it.

import type { Clock } from '../../lib/clock.ts'
import type { AgentDatabase } from '../operations/database.ts'

export interface KnownVm {
  readonly name: string
  readonly uuid: string
}

/** Those that were seen last are kept. */
export const knownVmsMax = 4_096
/** How exactly it is remembered when a VM was last there. */
const againMs = 24 * 3_600_000

export class KnownVms {
  readonly #database: AgentDatabase
  readonly #clock: Pick<Clock, 'now'>

  constructor({ database, clock }: { database: AgentDatabase; clock: Pick<Clock, 'now'> }) {
    this.#database = database
    this.#clock = clock
  }

  /**
   * VMs are there. One of which nothing is remembered, neither here nor a command, was adopted: its host's state directory
   * was lost, or is another one. Returns those. Throws what the journal throws when the disk is full.
   */
  note(vms: readonly KnownVm[]): readonly KnownVm[] {
    const now = this.#clock.now()
    const before = new Map(this.#rows().map((row) => [row.uuid, row]))
    const changed = vms.filter(({ uuid, name }) => {
      const row = before.get(uuid)
      return row === undefined || row.name !== name || row.seenAt < now - againMs
    })
    if (changed.length === 0) return []
    const adopted = changed.filter(({ uuid }) => !before.has(uuid) && !this.#hadCommands(uuid))
    this.#database.transaction(() => {
      for (const vm of changed) this.#write(vm, now, adopted.includes(vm) ? now : null)
      this.#prune()
    })
    return adopted
  }

  all(): readonly KnownVm[] {
    return this.#rows().map(({ name, uuid }) => ({ name, uuid }))
  }

  /** VMs that were adopted since then, and of which no good backup is recorded yet. */
  adoptedSince(since: number): readonly KnownVm[] {
    return this.#database
      .all(
        `SELECT name, uuid FROM known_vms WHERE adopted_at >= ?
           AND NOT EXISTS (SELECT 1 FROM backup_good WHERE backup_good.uuid = known_vms.uuid)`,
        since
      )
      .map(({ name, uuid }) => ({ name: String(name), uuid: String(uuid) }))
  }

  #rows(): { uuid: string; name: string; seenAt: number }[] {
    return this.#database.all('SELECT uuid, name, seen_at FROM known_vms').map(({ uuid, name, seen_at }) => ({
      uuid: String(uuid),
      name: String(name),
      seenAt: Number(seen_at)
    }))
  }

  #hadCommands(uuid: string): boolean {
    return this.#database.get('SELECT 1 FROM generations WHERE uuid = ?', uuid) !== undefined
  }

  #write({ uuid, name }: KnownVm, now: number, adoptedAt: number | null): void {
    this.#database.run(
      `INSERT INTO known_vms (uuid, name, seen_at, adopted_at) VALUES (?, ?, ?, ?)
         ON CONFLICT (uuid) DO UPDATE SET name = excluded.name, seen_at = excluded.seen_at`,
      uuid,
      name,
      now,
      adoptedAt
    )
  }

  #prune(): void {
    this.#database.run(
      `DELETE FROM known_vms WHERE uuid NOT IN
         (SELECT uuid FROM known_vms ORDER BY seen_at DESC, uuid LIMIT ?)`,
      knownVmsMax
    )
  }
}
