// Hosts in SQLite: who they are (promised), and what their agents last said (observed).

import type { AgentMessageOf } from '../../protocol/messages.ts'
import type { ForeignDomain } from '../../protocol/vm.ts'
import type { CertificateMark, KnownCertificates } from '../identity/standing.ts'
import { mergeInventory } from './inventory.ts'
import { fromJson, fromJsonOrNull, given, page } from './rows.ts'
import type { Sqlite } from './sqlite.ts'
import type { HostRecord, HostReport, HostStanding, HostStore, InventoryOutcome, Page } from './store.ts'

/** Runs of an agent that are remembered: a clone shows itself with the one before the last, or soon after it. */
const earlierInstancesMax = 16

interface HostRow {
  readonly id: string
  readonly hostname: string
  readonly enrolled_at: number
  readonly certificate_expires_at: number
  readonly revoked_at: number | null
  readonly certificate_key: string | null
  readonly certificate_from: number | null
  readonly previous_key: string | null
  readonly cloned_at: number | null
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
  readonly waits: string
  readonly conditions: string
  readonly facts: string | null
  readonly foreign_count: number
  readonly clock_skew_ms: number | null
  readonly trail_fault_at: number | null
  readonly trail_fault: string | null
  readonly labels: string
}

const select = `
  SELECT hosts.*, host_reports.*, json_array_length(foreign_domains) AS foreign_count,
    (SELECT count(*) FROM vms WHERE vms.host = hosts.id) AS vm_count,
    (SELECT json_group_object(key, value) FROM host_labels WHERE host_labels.host = hosts.id) AS labels,
    trail_faults.at AS trail_fault_at, trail_faults.message AS trail_fault
  FROM hosts LEFT JOIN host_reports ON host_reports.host = hosts.id
    LEFT JOIN trail_faults ON trail_faults.host = hosts.id`

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

  async renewed(
    id: string,
    {
      certificateExpiresAt,
      issued,
      previousKey
    }: { certificateExpiresAt: number; issued: CertificateMark; previousKey: string }
  ): Promise<void> {
    this.#sqlite.run(
      `UPDATE hosts SET certificate_expires_at = :certificateExpiresAt, certificate_key = :key,
         certificate_from = :from, previous_key = :previousKey WHERE id = :id`,
      { id, certificateExpiresAt, ...issued, previousKey }
    )
  }

  async used(id: string, certificate: CertificateMark): Promise<void> {
    this.#sqlite.run(
      `UPDATE hosts SET certificate_key = :key, certificate_from = :from, previous_key = NULL WHERE id = :id`,
      { id, ...certificate }
    )
  }

  async cloned(id: string, at: number): Promise<boolean> {
    return (
      this.#sqlite.run('UPDATE hosts SET cloned_at = :at WHERE id = :id AND cloned_at IS NULL', { id, at }) >
      0
    )
  }

  async settled(id: string): Promise<boolean> {
    const changed = this.#sqlite.run(
      'UPDATE hosts SET cloned_at = NULL WHERE id = :id AND cloned_at IS NOT NULL',
      { id }
    )
    // Whoever comes next begins anew: of those that were seen, none counts as one that returns.
    this.#sqlite.run(
      `UPDATE host_reports SET living_instance = '', earlier_instances = '[]' WHERE host = :id`,
      { id }
    )
    return changed > 0
  }

  async isReturning(id: string, instance: string): Promise<boolean> {
    const row = this.#sqlite.get<{ earlier_instances: string }>(
      'SELECT earlier_instances FROM host_reports WHERE host = :id',
      { id }
    )
    return row !== undefined && fromJson<string[]>(row.earlier_instances).includes(instance)
  }

  async standing(): Promise<ReadonlyMap<string, HostStanding>> {
    const rows = this.#sqlite.all<{ id: string; revoked: number; cloned: number; connection: string | null }>(
      `SELECT id, revoked_at IS NOT NULL AS revoked, cloned_at IS NOT NULL AS cloned, connection
       FROM hosts LEFT JOIN host_reports ON host_reports.host = hosts.id`
    )
    return new Map(
      rows.map(({ id, revoked, cloned, connection }) => [
        id,
        { revoked: revoked === 1, cloned: cloned === 1, connection: given(connection) }
      ])
    )
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

  async heartbeat(
    id: string,
    heartbeat: AgentMessageOf<'heartbeat'>,
    { at, instance }: { at: number; instance: string }
  ): Promise<void> {
    this.#noteInstance(id, instance)
    this.#sqlite.run(
      `UPDATE host_reports SET last_seen_at = :at, hypervisor = :hypervisor, operations_running = :running,
         operations_waiting = :waiting, draining_since = :drainingSince, conditions = :conditions, clock_skew_ms = :skew,
         waits = :waits
       WHERE host = :id`,
      {
        id,
        at,
        skew: heartbeat.sentAt - at,
        hypervisor: heartbeat.hypervisor,
        running: heartbeat.operationsRunning,
        waiting: heartbeat.operationsWaiting,
        drainingSince: heartbeat.drainingSince ?? null,
        conditions: JSON.stringify(heartbeat.conditions),
        waits: JSON.stringify(heartbeat.waits ?? [])
      }
    )
  }

  /** A run of the agent counts once it has been heard after its hello: one that died before cannot come back. */
  #noteInstance(id: string, instance: string): void {
    const row = this.#sqlite.get<{ living_instance: string; earlier_instances: string }>(
      `SELECT living_instance, earlier_instances FROM host_reports
       WHERE host = :id AND instance = :instance AND living_instance <> :instance`,
      { id, instance }
    )
    // Also when another run has said hello to another process since: this one may be dead by now.
    if (row === undefined) return
    const earlier = [row.living_instance, ...fromJson<string[]>(row.earlier_instances)]
    this.#sqlite.run(
      'UPDATE host_reports SET living_instance = :instance, earlier_instances = :earlier WHERE host = :id',
      {
        id,
        instance,
        earlier: JSON.stringify(earlier.filter((one) => one !== '').slice(0, earlierInstancesMax))
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
    certificates: toCertificates(row),
    clonedAt: given(row.cloned_at),
    vmCount: row.vm_count,
    labels: fromJson(row.labels),
    trailFault:
      row.trail_fault_at === null ? undefined : { at: row.trail_fault_at, message: row.trail_fault ?? '' },
    report: row.state === null ? undefined : toReport(row, row.state)
  }
}

function toCertificates(row: HostRow): KnownCertificates | undefined {
  const { certificate_key: key, certificate_from: from, previous_key: previous } = row
  return key === null || from === null ? undefined : { current: { key, from }, previousKey: given(previous) }
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
    waits: fromJson(row.waits),
    conditions: fromJson(row.conditions),
    facts: fromJsonOrNull(row.facts),
    foreignCount: row.foreign_count,
    clockSkewMs: given(row.clock_skew_ms)
  }
}
