// The calls of the API in SQLite: a chain of lines, with columns beside them only to find them by.

import { type ChainEntry, type Link, openLine, origin, sealEntry } from '../../lib/chain.ts'
import type { AuditFilter, AuditStore, NewAuditEntry } from './audit-store.ts'
import { page } from './rows.ts'
import type { Sqlite } from './sqlite.ts'
import type { Bound, Page } from './store.ts'

interface AuditRow {
  readonly sequence: number
  readonly at: number
  readonly line: string
}

/** Rows that one round forgets at most. */
const pruneRowsMax = 20_000

/** Null where nothing failed. A line may be damaged, and is then none of a refusal. */
const failureOf = `CASE WHEN refused = 0 THEN NULL
  WHEN CASE WHEN json_valid(line) THEN json_extract(line, '$.status') END IN (401, 403, 429) THEN 'refused' ELSE 'other' END`

export class AuditTable implements AuditStore {
  readonly #sqlite: Sqlite

  constructor(sqlite: Sqlite) {
    this.#sqlite = sqlite
  }

  async append(entry: NewAuditEntry): Promise<Link> {
    return this.#sqlite.transaction(() => {
      const { line, link } = sealEntry(entry, this.#head())
      const { key, object, operation, status } = entry.fields
      this.#sqlite.run(
        `INSERT INTO api_audit (sequence, at, kind, key, object, operation, refused, hash, line)
         VALUES (:seq, :at, :kind, :key, :object, :operation, :refused, :hash, :line)`,
        {
          ...link,
          ...{ at: entry.at, kind: entry.kind, line },
          ...{ key: textOf(key), object: textOf(object), operation: textOf(operation) },
          refused: typeof status === 'number' && status >= 400 ? 1 : 0
        }
      )
      return link
    })
  }

  async list(
    { after, newest = false, kind, key, object, operation, refused, failure, since, until }: AuditFilter,
    limit: number
  ): Promise<Page<ChainEntry>> {
    const rows = this.#sqlite.all<AuditRow>(
      `SELECT sequence, at, line FROM api_audit WHERE sequence > :after
         AND (:kind IS NULL OR kind = :kind OR substr(kind, 1, length(:kind) + 1) = :kind || '.')
         AND (:key IS NULL OR key = :key)
         AND (:object IS NULL OR object = :object) AND (:operation IS NULL OR operation = :operation)
         AND (:refused IS NULL OR refused = :refused) AND (:failure IS NULL OR ${failureOf} = :failure) AND (:since IS NULL OR at >= :since)
         AND (:until IS NULL OR at < :until)
       ORDER BY sequence ${newest ? 'DESC' : 'ASC'} LIMIT :limit`,
      {
        ...{
          after,
          limit: limit + 1,
          since: since ?? null,
          until: until ?? null,
          kind: kind ?? null,
          key: key ?? null
        },
        ...{ object: object ?? null, operation: operation ?? null },
        refused: refused === undefined ? null : Number(refused),
        failure: failure ?? null
      }
    )
    const { items, more } = page(rows, limit, entryOf)
    return { items: newest ? items.toReversed() : items, more }
  }

  async ends(): Promise<{ head: Link; anchor: Link }> {
    return { head: this.#head(), anchor: this.#anchor() }
  }

  /** Forgets the oldest, never one between others, and remembers what the first that stays goes on from. */
  prune({ keepMs, rowsMax }: Bound, now: number): number {
    return this.#sqlite.transaction(() => {
      const last = this.#sqlite.get<{ sequence: number; hash: string }>(
        `SELECT sequence, hash FROM (SELECT sequence, hash FROM api_audit WHERE sequence < max(
           coalesce((SELECT min(sequence) FROM api_audit WHERE at >= :before), (SELECT max(sequence) FROM api_audit)),
           (SELECT max(sequence) FROM api_audit) - :rowsMax + 1) ORDER BY sequence LIMIT :limit)
         ORDER BY sequence DESC LIMIT 1`,
        { before: now - keepMs, rowsMax, limit: pruneRowsMax }
      )
      if (last === undefined) return 0
      const { sequence: seq, hash } = last
      this.#sqlite.run(
        `INSERT INTO api_audit_anchor (id, seq, hash) VALUES (1, :seq, :hash)
         ON CONFLICT (id) DO UPDATE SET seq = excluded.seq, hash = excluded.hash`,
        { seq, hash }
      )
      return this.#sqlite.run('DELETE FROM api_audit WHERE sequence <= :seq', { seq })
    })
  }

  #head(): Link {
    const row = this.#sqlite.get<Link>(
      'SELECT sequence AS seq, hash FROM api_audit ORDER BY sequence DESC LIMIT 1'
    )
    return row === undefined ? this.#anchor() : { seq: row.seq, hash: row.hash }
  }

  #anchor(): Link {
    const row = this.#sqlite.get<Link>('SELECT seq, hash FROM api_audit_anchor')
    return row === undefined ? origin : { seq: row.seq, hash: row.hash }
  }
}

/** As it was written, or, where somebody has changed the row, as something that no check takes for an entry. */
function entryOf({ sequence: seq, at, line }: AuditRow): ChainEntry {
  const entry = openLine(Buffer.from(line))
  return entry?.seq === seq ? entry : { seq, at, kind: 'unreadable', line, prev: '', hash: '' }
}

function textOf(value: unknown): string | null {
  return typeof value === 'string' ? value : null
}
