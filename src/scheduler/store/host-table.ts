// Hosts in SQLite: who they are (promised), and what their agents last said (observed).

import type { AgentMessageOf } from '../../protocol/messages.ts'
import type { ForeignDomain } from '../../protocol/vm.ts'
import { mergeInventory } from './inventory.ts'
import { fromJson, fromJsonOrNull, given, page } from './rows.ts'
import type { Sqlite } from './sqlite.ts'
import type { HostRecord, HostReport, HostStore, InventoryOutcome, Page } from './store.ts'

interface HostRow {
  readonly id: string
  readonly hostname: string
  readonly enrolled_at: number
  readonly certificate_expires_at: number
  readonly revoked_at: number | null
  readonly vm_count: number
  readonly state: 'connected' | 'away' | null
  readonly reason: string
  readonly connection: string
  readonly connected_at: number
  readonly last_seen_at: number
  readonly agent_version: string
  readonly instance: string
  readonly verbs: string
  readonly hypervisor: HostReport['hypervisor']
  readonly operations_running: number
  readonly operations_waiting: number
  readonly draining_since: number | null
  readonly conditions: string
  readonly facts: string | null
  readonly foreign_count: number
}

const select = `
  SELECT hosts.*, host_reports.*, json_array_length(foreign_domains) AS foreign_count,
    (SELECT count(*) FROM vms WHERE vms.host = hosts.id) AS vm_count
  FROM hosts LEFT JOIN host_reports ON host_reports.host = hosts.id`

export class HostTable implements HostStore {
  readonly #sqlite: Sqlite

  /** A host is connected to a process; to one that has just opened this file, none can be. */
  constructor(sqlite: Sqlite) {
    this.#sqlite = sqlite
    sqlite.run(
      `UPDATE host_reports SET state = 'away', reason = 'the scheduler was restarted, the host has not come back yet'
       WHERE state = 'connected'`
    )
  }

  async find(id: string): Promise<HostRecord | undefined> {
    const row = this.#sqlite.get<HostRow>(`${select} WHERE hosts.id = :id`, { id })
    return row === undefined ? undefined : toRecord(row)
  }

  async list(limit: number): Promise<Page<HostRecord>> {
    const rows = this.#sqlite.all<HostRow>(`${select} ORDER BY hosts.id LIMIT :limit`, { limit: limit + 1 })
    return page(rows, limit, toRecord)
  }

  async foreign(id: string): Promise<readonly ForeignDomain[]> {
    const row = this.#sqlite.get<{ foreign_domains: string }>(
      'SELECT foreign_domains FROM host_reports WHERE host = :id',
      { id }
    )
    return row === undefined ? [] : fromJson<ForeignDomain[]>(row.foreign_domains)
  }

  async revoke(id: string, at: number): Promise<boolean> {
    return (
      this.#sqlite.run('UPDATE hosts SET revoked_at = :at WHERE id = :id AND revoked_at IS NULL', {
        id,
        at
      }) > 0
    )
  }

  async renewed(id: string, certificateExpiresAt: number): Promise<void> {
    this.#sqlite.run('UPDATE hosts SET certificate_expires_at = :certificateExpiresAt WHERE id = :id', {
      id,
      certificateExpiresAt
    })
  }

  async connected(
    id: string,
    report: Pick<HostReport, 'connection' | 'connectedAt' | 'agentVersion' | 'instance' | 'verbs'>
  ): Promise<void> {
    this.#sqlite.run(
      `INSERT INTO host_reports (host, state, reason, connection, connected_at, last_seen_at, agent_version, instance,
         verbs, hypervisor, operations_running, operations_waiting, conditions, foreign_domains)
       VALUES (:id, 'connected', 'its agent is connected', :connection, :connectedAt, :connectedAt, :agentVersion,
         :instance, :verbs, 'unknown', 0, 0, '[]', '[]')
       ON CONFLICT (host) DO UPDATE SET state = excluded.state, reason = excluded.reason,
         connection = excluded.connection, connected_at = excluded.connected_at, last_seen_at = excluded.last_seen_at,
         agent_version = excluded.agent_version, instance = excluded.instance, verbs = excluded.verbs,
         hypervisor = 'unknown'`,
      { ...report, id, verbs: JSON.stringify(report.verbs) }
    )
  }

  async away(id: string, connection: string, reason: string): Promise<void> {
    this.#sqlite.run(
      `UPDATE host_reports SET state = 'away', reason = :reason, operations_running = 0, operations_waiting = 0
       WHERE host = :id AND connection = :connection`,
      { id, connection, reason }
    )
  }

  async heartbeat(id: string, heartbeat: AgentMessageOf<'heartbeat'>, at: number): Promise<void> {
    this.#sqlite.run(
      `UPDATE host_reports SET last_seen_at = :at, hypervisor = :hypervisor, operations_running = :running,
         operations_waiting = :waiting, draining_since = :drainingSince, conditions = :conditions
       WHERE host = :id`,
      {
        id,
        at,
        hypervisor: heartbeat.hypervisor,
        running: heartbeat.operationsRunning,
        waiting: heartbeat.operationsWaiting,
        drainingSince: heartbeat.drainingSince ?? null,
        conditions: JSON.stringify(heartbeat.conditions)
      }
    )
  }

  async inventory(id: string, inventory: AgentMessageOf<'inventory'>, at: number): Promise<InventoryOutcome> {
    return mergeInventory(this.#sqlite, { host: id, inventory, at })
  }
}

function toRecord(row: HostRow): HostRecord {
  return {
    id: row.id,
    hostname: row.hostname,
    enrolledAt: row.enrolled_at,
    certificateExpiresAt: row.certificate_expires_at,
    revokedAt: given(row.revoked_at),
    vmCount: row.vm_count,
    report: row.state === null ? undefined : toReport(row, row.state)
  }
}

function toReport(row: HostRow, state: HostReport['state']): HostReport {
  return {
    state,
    reason: row.reason,
    connection: row.connection,
    connectedAt: row.connected_at,
    lastSeenAt: row.last_seen_at,
    agentVersion: row.agent_version,
    instance: row.instance,
    verbs: fromJson(row.verbs),
    hypervisor: row.hypervisor,
    operationsRunning: row.operations_running,
    operationsWaiting: row.operations_waiting,
    drainingSince: given(row.draining_since),
    conditions: fromJson(row.conditions),
    facts: fromJsonOrNull(row.facts),
    foreignCount: row.foreign_count
  }
}
