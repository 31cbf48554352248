// Trust in SQLite: statements and state (promised), how far each host is (observed).

import type { TrustHistoryEntry } from '../../protocol/api.ts'
import { given } from './rows.ts'
import type { Sqlite } from './sqlite.ts'
import type { HostTrust, NewStatement, OpenCommand, TrustStore } from './trust-store.ts'

/** Statements that are kept; a host that was away for longer has to enroll anew. */
export const statementsKeptMax = 1_000

interface HostTrustRow {
  readonly host: string
  readonly state: 'connected' | 'away' | null
  readonly last_seen_at: number | null
  readonly certificate_expires_at: number
  readonly serial: number | null
  readonly fault: string | null
  readonly authority: string | null
}

export class TrustTable implements TrustStore {
  readonly #sqlite: Sqlite

  constructor(sqlite: Sqlite) {
    this.#sqlite = sqlite
  }

  async state(): Promise<string | undefined> {
    return this.#sqlite.get<{ state: string }>('SELECT state FROM trust_state')?.state
  }

  async commit(state: string, { forced, ...statement }: NewStatement): Promise<void> {
    this.#sqlite.transaction(() => {
      this.#sqlite.run(
        `INSERT INTO trust_statements (serial, jws, at, by, what, forced)
         VALUES (:serial, :jws, :at, :by, :what, :forced)`,
        { ...statement, forced: forced ? 1 : 0 }
      )
      this.#sqlite.run(
        `INSERT INTO trust_state (only_one, state) VALUES (1, :state)
         ON CONFLICT (only_one) DO UPDATE SET state = excluded.state`,
        { state }
      )
      this.#sqlite.run(
        `DELETE FROM trust_statements WHERE serial NOT IN
           (SELECT serial FROM trust_statements ORDER BY serial DESC LIMIT :kept)`,
        { kept: statementsKeptMax }
      )
    })
  }

  async statements(after: number, limit: number): Promise<readonly string[]> {
    return this.#sqlite
      .all<{ jws: string }>(
        'SELECT jws FROM trust_statements WHERE serial > :after ORDER BY serial LIMIT :limit',
        { after, limit }
      )
      .map(({ jws }) => jws)
  }

  async history(limit: number): Promise<readonly TrustHistoryEntry[]> {
    return this.#sqlite
      .all<Omit<TrustHistoryEntry, 'forced'> & { forced: number }>(
        'SELECT serial, at, by, what, forced FROM trust_statements ORDER BY serial DESC LIMIT :limit',
        { limit }
      )
      .map(({ serial, at, by, what, forced }) => ({ serial, at, by, what, forced: forced !== 0 }))
  }

  async adopted(host: string, serial: number | undefined, fault: string | undefined): Promise<void> {
    this.#sqlite.run(
      `INSERT INTO host_trust (host, serial, fault) VALUES (:host, :serial, :fault)
       ON CONFLICT (host) DO UPDATE SET serial = excluded.serial, fault = excluded.fault`,
      { host, serial: serial ?? null, fault: fault ?? null }
    )
  }

  async cameWith(host: string, authority: string): Promise<void> {
    this.#sqlite.run(
      `INSERT INTO host_trust (host, authority) VALUES (:host, :authority)
       ON CONFLICT (host) DO UPDATE SET authority = excluded.authority`,
      { host, authority }
    )
  }

  async hosts(): Promise<readonly HostTrust[]> {
    return this.#sqlite
      .all<HostTrustRow>(
        `SELECT hosts.id AS host, host_reports.state, last_seen_at, certificate_expires_at, serial, fault, authority
         FROM hosts LEFT JOIN host_reports ON host_reports.host = hosts.id
           LEFT JOIN host_trust ON host_trust.host = hosts.id
         WHERE revoked_at IS NULL ORDER BY hosts.id`
      )
      .map((row) => ({
        host: row.host,
        state: row.state ?? 'new',
        lastSeenAt: given(row.last_seen_at),
        certificateExpiresAt: row.certificate_expires_at,
        serial: given(row.serial),
        fault: given(row.fault),
        authority: given(row.authority)
      }))
  }

  async openCommands(after: number, limit: number): Promise<readonly OpenCommand[]> {
    return this.#sqlite.all<OpenCommand>(
      `SELECT sequence, id, jws FROM commands
       WHERE state IN ('waiting', 'sent', 'running') AND jws IS NOT NULL AND sequence > :after
       ORDER BY sequence LIMIT :limit`,
      { after, limit }
    )
  }

  async resigned(commands: readonly OpenCommand[]): Promise<void> {
    this.#sqlite.transaction(() => {
      for (const { id, jws } of commands)
        this.#sqlite.run('UPDATE commands SET jws = :jws WHERE id = :id AND jws IS NOT NULL', { id, jws })
    })
  }
}
