// VM events in SQLite, in the order in which they came.

import type { EventView } from '../../protocol/api.ts'
import type { VmEvent } from '../../protocol/messages.ts'
import { page } from './rows.ts'
import type { Sqlite } from './sqlite.ts'
import type { EventFilter, EventStore, Page } from './store.ts'

interface EventRow extends Omit<EventView, 'receivedAt'> {
  readonly received_at: number
}

export class EventTable implements EventStore {
  readonly #sqlite: Sqlite

  constructor(sqlite: Sqlite) {
    this.#sqlite = sqlite
  }

  async add(host: string, { type: _type, ...event }: VmEvent, receivedAt: number): Promise<void> {
    this.#sqlite.run(
      `INSERT INTO events (at, received_at, host, vm, uuid, kind, state, detail)
       VALUES (:at, :receivedAt, :host, :vm, :uuid, :kind, :state, :detail)`,
      { ...event, host, receivedAt }
    )
  }

  async list({ after, vm, newest = false }: EventFilter, limit: number): Promise<Page<EventView>> {
    const rows = this.#sqlite.all<EventRow>(
      `SELECT * FROM events WHERE sequence > :after AND (:vm IS NULL OR vm = :vm)
       ORDER BY sequence ${newest ? 'DESC' : 'ASC'} LIMIT :limit`,
      { after, vm: vm ?? null, limit: limit + 1 }
    )
    const { items, more } = page(rows, limit, ({ received_at: receivedAt, ...row }) => ({
      ...row,
      receivedAt
    }))
    return { items: newest ? items.toReversed() : items, more }
  }
}
