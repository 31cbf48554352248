// Backups in SQLite: snapshots, runs and schedules as hosts told of them. Snapshots stay when their VM and its host are gone.

import type { BackupRecord, BackupReport, BackupSchedule } from '../../protocol/backup.ts'
import type { VmSpecification } from '../../protocol/vm.ts'
import type {
  BackupEntry,
  BackupFact,
  BackupFilter,
  BackupRun,
  BackupRunFilter,
  BackupStore
} from './backup-store.ts'
import { fromJson, fromJsonOrNull, given, page } from './rows.ts'
import type { Sqlite } from './sqlite.ts'
import type { Page } from './store.ts'

interface SnapshotRow {
  readonly record: string
  readonly operation: string | null
  readonly origin: BackupReport['origin'] | null
  readonly verification: string | null
  readonly removed_at: number | null
}

interface RunRow {
  readonly operation: string
  readonly vm: string
  readonly uuid: string
  readonly host: string
  readonly target: string
  readonly origin: BackupReport['origin']
  readonly started_at: number
  readonly finished_at: number
  readonly next_at: number | null
  readonly snapshot: string | null
  readonly error: string | null
}

/** VMs of one name that are looked at, and repositories of one VM. */
const namesakesMax = 64

export class BackupTable implements BackupStore {
  readonly #sqlite: Sqlite

  constructor(sqlite: Sqlite) {
    this.#sqlite = sqlite
  }

  async learn(host: string, fact: BackupFact, at: number): Promise<boolean> {
    return this.#sqlite.transaction(() => this.#learn(host, fact, at))
  }

  async find(snapshot: string): Promise<BackupEntry | undefined> {
    const row = this.#sqlite.get<SnapshotRow>('SELECT * FROM backup_snapshots WHERE snapshot = :snapshot', {
      snapshot
    })
    return row && toEntry(row)
  }

  async list({ vm, host, target, removed = false }: BackupFilter, limit: number): Promise<Page<BackupEntry>> {
    const rows = this.#sqlite.all<SnapshotRow>(
      `SELECT * FROM backup_snapshots WHERE (:vm IS NULL OR vm = :vm OR uuid = :vm) AND (:host IS NULL OR host = :host)
         AND (:target IS NULL OR target = :target) AND (:removed OR removed_at IS NULL)
       ORDER BY taken_at DESC, sequence DESC LIMIT :limit`,
      {
        ...{ vm: vm ?? null, host: host ?? null, target: target ?? null },
        removed: removed ? 1 : 0,
        limit: limit + 1
      }
    )
    return page(rows, limit, toEntry)
  }

  async newest(source: string, target: string): Promise<BackupEntry | undefined> {
    const row = this.#sqlite.get<SnapshotRow>(
      `SELECT * FROM backup_snapshots WHERE uuid = :source AND target = :target AND removed_at IS NULL
       ORDER BY number DESC LIMIT 1`,
      { source, target }
    )
    return row && toEntry(row)
  }

  async sourcesNamed(vm: string): Promise<readonly string[]> {
    return this.#column(
      `SELECT uuid AS value FROM backup_snapshots WHERE vm = :vm AND removed_at IS NULL
       GROUP BY uuid ORDER BY max(taken_at) DESC LIMIT ${namesakesMax}`,
      { vm }
    )
  }

  async targetsOf(source: string): Promise<readonly string[]> {
    return this.#column(
      `SELECT DISTINCT target AS value FROM backup_snapshots WHERE uuid = :source AND removed_at IS NULL
       ORDER BY target LIMIT ${namesakesMax}`,
      { source }
    )
  }

  async hostsOf(target: string): Promise<ReadonlySet<string>> {
    const sql = 'SELECT DISTINCT host AS value FROM backup_snapshots WHERE target = :target'
    return new Set(this.#column(sql, { target }))
  }

  async specificationOf(source: string): Promise<VmSpecification | undefined> {
    const row = this.#sqlite.get<{ specification: string | null }>(
      `SELECT coalesce((SELECT specification FROM vms WHERE uuid = :source),
         (SELECT specification FROM backup_sources WHERE uuid = :source)) AS specification`,
      { source }
    )
    return fromJsonOrNull(row?.specification ?? null)
  }

  async scheduleOf(uuid: string): Promise<BackupSchedule | undefined> {
    const row = this.#sqlite.get<{ schedule: string }>(
      'SELECT schedule FROM backup_schedules WHERE uuid = :uuid',
      { uuid }
    )
    return row && fromJson(row.schedule)
  }

  async lastRun(uuid: string): Promise<BackupRun | undefined> {
    const row = this.#sqlite.get<RunRow>(
      'SELECT * FROM backup_runs WHERE uuid = :uuid ORDER BY finished_at DESC, sequence DESC LIMIT 1',
      { uuid }
    )
    return row && toRun(row)
  }

  async runs({ vm, host, target, failed = false }: BackupRunFilter, limit: number): Promise<Page<BackupRun>> {
    const rows = this.#sqlite.all<RunRow>(
      `SELECT * FROM backup_runs WHERE (:vm IS NULL OR vm = :vm OR uuid = :vm) AND (:host IS NULL OR host = :host)
         AND (:target IS NULL OR target = :target) AND (NOT :failed OR error IS NOT NULL)
       ORDER BY finished_at DESC, sequence DESC LIMIT :limit`,
      {
        ...{ vm: vm ?? null, host: host ?? null, target: target ?? null },
        failed: failed ? 1 : 0,
        limit: limit + 1
      }
    )
    return page(rows, limit, toRun)
  }

  #learn(host: string, fact: BackupFact, at: number): boolean {
    switch (fact.kind) {
      case 'run':
        return this.#run(host, fact.report, at)
      case 'found':
        for (const record of fact.records) if (this.#mayTell(host, record.uuid)) this.#insert({ record })
        return true
      case 'verified':
        return this.#verified(fact)
      case 'removed':
        return this.#removed(fact, at)
      case 'schedule':
        return this.#mayTell(host, fact.uuid) && this.#schedule(fact, at)
      default:
        return fact satisfies never
    }
  }

  #run(host: string, report: BackupReport, at: number): boolean {
    const { id, vm, uuid, target, origin, startedAt, finishedAt, nextAt, record, removed, error } = report
    const isOfItself = record === undefined || (record.uuid === uuid && record.host === host)
    if (!this.#mayTell(host, uuid) || !isOfItself) return false
    this.#sqlite.run(
      `INSERT INTO backup_runs (operation, host, vm, uuid, target, origin, started_at, finished_at, next_at, snapshot, error)
       VALUES (:id, :host, :vm, :uuid, :target, :origin, :startedAt, :finishedAt, :nextAt, :snapshot, :error)
       ON CONFLICT (operation) DO UPDATE SET next_at = coalesce(excluded.next_at, next_at)`,
      {
        ...{ id, host, vm, uuid, target, origin, startedAt, finishedAt, nextAt: nextAt ?? null },
        snapshot: record?.snapshot ?? null,
        error: error === undefined ? null : JSON.stringify(error)
      }
    )
    if (record !== undefined) this.#insert({ record, operation: id, origin })
    if (removed !== undefined) this.#removed({ source: uuid, target, snapshots: removed }, at, host)
    return true
  }

  /** What is known of a snapshot never changes; one that was removed stays so. */
  #insert(made: { record: BackupRecord; operation?: string; origin?: BackupReport['origin'] }): void {
    const { record, operation = null, origin = null } = made
    const { snapshot, uuid, target, vm, host, sequence: number, at } = record
    this.#sqlite.run(
      `INSERT INTO backup_snapshots (snapshot, uuid, target, vm, host, number, taken_at, operation, origin, record)
       VALUES (:snapshot, :uuid, :target, :vm, :host, :number, :at, :operation, :origin, :record)
       ON CONFLICT (snapshot) DO NOTHING`,
      { snapshot, uuid, target, vm, host, number, at, operation, origin, record: JSON.stringify(record) }
    )
    this.#sqlite.run(
      `INSERT INTO backup_sources (uuid, specification)
       SELECT uuid, specification FROM vms WHERE uuid = :uuid AND specification IS NOT NULL
       ON CONFLICT (uuid) DO UPDATE SET specification = excluded.specification`,
      { uuid }
    )
  }

  /** The newest look counts, whichever comes first. */
  #verified({ source, snapshot, verification }: Extract<BackupFact, { kind: 'verified' }>): boolean {
    this.#sqlite.run(
      `UPDATE backup_snapshots SET verification = :verification WHERE snapshot = :snapshot AND uuid = :source
       AND coalesce(json_extract(verification, '$.at'), 0) <= :at`,
      { source, snapshot, verification: JSON.stringify(verification), at: verification.at }
    )
    return true
  }

  /** `by` a host's own word: of its own backups and those of its VM. In place of a revoked host others add, and end nothing. */
  #removed(
    { source, target, snapshots }: Omit<Extract<BackupFact, { kind: 'removed' }>, 'kind'>,
    at: number,
    by: string | null = null
  ): boolean {
    for (const snapshot of snapshots)
      this.#sqlite.run(
        `UPDATE backup_snapshots SET removed_at = :at
         WHERE snapshot = :snapshot AND uuid = :source AND target = :target AND removed_at IS NULL
           AND (:by IS NULL OR host = :by OR EXISTS (SELECT 1 FROM vms WHERE uuid = :source AND vms.host = :by))`,
        { snapshot, source, target, at, by }
      )
    return true
  }

  #schedule({ uuid, schedule }: Extract<BackupFact, { kind: 'schedule' }>, at: number): boolean {
    // What earlier runs said would be next was by the schedule before.
    this.#sqlite.run('UPDATE backup_runs SET next_at = NULL WHERE uuid = :uuid AND next_at IS NOT NULL', {
      uuid
    })
    if (schedule === null) this.#sqlite.run('DELETE FROM backup_schedules WHERE uuid = :uuid', { uuid })
    else
      this.#sqlite.run(
        `INSERT INTO backup_schedules (uuid, schedule, set_at) VALUES (:uuid, :schedule, :at)
         ON CONFLICT (uuid) DO UPDATE SET schedule = excluded.schedule, set_at = excluded.set_at`,
        { uuid, schedule: JSON.stringify(schedule), at }
      )
    return true
  }

  /** The VM's own host; for a VM that is gone the one that backed it up before; in place of a revoked one any. */
  #mayTell(host: string, uuid: string): boolean {
    const owner = this.#sqlite.get<{ host: string; revoked_at: number | null }>(
      `SELECT owner.host, hosts.revoked_at FROM (SELECT host, 1 AS rank, 0 AS at FROM vms WHERE uuid = :uuid
         UNION ALL SELECT host, 2, taken_at FROM backup_snapshots WHERE uuid = :uuid) AS owner
       LEFT JOIN hosts ON hosts.id = owner.host ORDER BY rank, at DESC LIMIT 1`,
      { uuid }
    )
    return owner === undefined || owner.host === host || owner.revoked_at !== null
  }

  #column(sql: string, parameters: Readonly<Record<string, string>>): readonly string[] {
    return this.#sqlite.all<{ value: string }>(sql, parameters).map(({ value }) => value)
  }
}

function toEntry(row: SnapshotRow): BackupEntry {
  return {
    record: fromJson(row.record),
    operation: given(row.operation),
    origin: given(row.origin),
    verification: fromJsonOrNull(row.verification),
    removedAt: given(row.removed_at)
  }
}

function toRun(row: RunRow): BackupRun {
  return {
    operation: row.operation,
    vm: row.vm,
    uuid: row.uuid,
    host: row.host,
    target: row.target,
    origin: row.origin,
    startedAt: row.started_at,
    finishedAt: row.finished_at,
    nextAt: given(row.next_at),
    snapshot: given(row.snapshot),
    error: fromJsonOrNull(row.error)
  }
}
