// What the agent remembers of backups: reports until the scheduler has them, how the last run of each VM went, and the last good one.

import type { ErrorReport } from '../../errors.ts'
import type { Clock } from '../../lib/clock.ts'
import type { BackupReport, BackupSchedule } from '../../protocol/backup.ts'
import type { AgentDatabase, Row } from '../operations/database.ts'

/** Reports that wait for the scheduler; beyond, the oldest failed ones go first, then the oldest. */
export const reportsMax = 10_000
/** Reports of one message. */
export const reportsAtOnceMax = 64
/** Last good backups of VMs that are no longer on the host: a restored one is checked against them. */
export const goneGoodMax = 4_096

/** The newest snapshot that this host knows of a VM in a repository. */
export interface GoodBackup {
  readonly snapshot: string
  readonly sequence: number
  /** The instant whose content it holds. */
  readonly at: number
  /** The checkpoint made with it, from which the next one may go on; null when there is none, or it is of no use any more. */
  readonly checkpoint: { readonly name: string; readonly xml: string } | null
  /** What a verification found wrong with stored data since the last full backup: later snapshots may refer to it too. */
  readonly damage?: Damage
}

export interface Damage {
  readonly snapshot: string
  readonly fault: string
}

/** How backups of a VM to a repository have gone. */
export interface BackupRun {
  readonly uuid: string
  readonly target: string
  readonly vm: string
  /** Of the last run, good or not. */
  readonly startedAt: number
  readonly finishedAt: number
  /** When the last good run began; undefined when none was good. */
  readonly goodAt: number | undefined
  /** Failed runs since. */
  readonly failures: number
  /** Of the last run. */
  readonly error: ErrorReport | undefined
}

/** What the runner of backups asks of this: an interface, so that its tests need no database. */
export interface GoodBackups {
  lastGood(uuid: string, target: string): GoodBackup | undefined
  /** Durable when it returns. Call once the snapshot's manifest is written. */
  keepGood(uuid: string, target: string, good: GoodBackup): void
  /** All of a VM, by repository: their checkpoints are those that must stay. */
  allGood(uuid: string): ReadonlyMap<string, GoodBackup>
  /** The checkpoint is gone or of no use; the snapshot is still known. */
  dropCheckpoint(uuid: string, target: string): void
  /** Its backups in that repository were erased. */
  forgetGood(uuid: string, target: string): void
  /** Whether any VM of this host is known to have been backed up there. */
  isUsed(target: string): boolean
  /** Stored data is damaged: the next backup is to be full. No effect where no good backup is known. */
  noteDamage(uuid: string, target: string, damage: Damage): void
}

export class BackupRecords implements GoodBackups {
  readonly #database: AgentDatabase
  readonly #clock: Pick<Clock, 'now'>
  readonly #reportsMax: number

  constructor(options: {
    readonly database: AgentDatabase
    readonly clock: Pick<Clock, 'now'>
    readonly reportsMax?: number
  }) {
    this.#database = options.database
    this.#clock = options.clock
    this.#reportsMax = options.reportsMax ?? reportsMax
  }

  lastGood(uuid: string, target: string): GoodBackup | undefined {
    const row = this.#database.get('SELECT * FROM backup_good WHERE uuid = ? AND target = ?', uuid, target)
    return row && goodOf(row)
  }

  keepGood(uuid: string, target: string, good: GoodBackup): void {
    const { snapshot, sequence, at, checkpoint, damage } = good
    this.#database.run(
      `INSERT INTO backup_good
           (uuid, target, snapshot, sequence, at, checkpoint, checkpoint_xml, damaged_snapshot, damage)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (uuid, target) DO UPDATE SET snapshot = excluded.snapshot,
           sequence = excluded.sequence, at = excluded.at, checkpoint = excluded.checkpoint,
           checkpoint_xml = excluded.checkpoint_xml, damaged_snapshot = excluded.damaged_snapshot,
           damage = excluded.damage`,
      uuid,
      target,
      snapshot,
      sequence,
      at,
      checkpoint?.name ?? null,
      checkpoint?.xml ?? null,
      damage?.snapshot ?? null,
      damage?.fault ?? null
    )
    this.#database.syncNow()
  }

  noteDamage(uuid: string, target: string, { snapshot, fault }: Damage): void {
    this.#database.run(
      'UPDATE backup_good SET damaged_snapshot = ?, damage = ? WHERE uuid = ? AND target = ?',
      snapshot,
      fault,
      uuid,
      target
    )
  }

  allGood(uuid: string): ReadonlyMap<string, GoodBackup> {
    const rows = this.#database.all('SELECT * FROM backup_good WHERE uuid = ? ORDER BY target', uuid)
    return new Map(rows.map((row) => [String(row.target), goodOf(row)]))
  }

  dropCheckpoint(uuid: string, target: string): void {
    this.#database.run(
      'UPDATE backup_good SET checkpoint = NULL, checkpoint_xml = NULL WHERE uuid = ? AND target = ?',
      uuid,
      target
    )
  }

  forgetGood(uuid: string, target: string): void {
    this.#database.run('DELETE FROM backup_good WHERE uuid = ? AND target = ?', uuid, target)
  }

  isUsed(target: string): boolean {
    return this.#database.get('SELECT 1 FROM backup_good WHERE target = ? LIMIT 1', target) !== undefined
  }

  /** Keeps a report until it is acknowledged, once however often it is told. `held`: not sent before `release`. */
  keep(report: BackupReport, { held = false }: { held?: boolean } = {}): void {
    const good = report.record !== undefined
    this.#database.transaction(() => {
      const added = this.#database.run(
        'INSERT INTO backup_reports (id, good, held, report) VALUES (?, ?, ?, ?) ON CONFLICT (id) DO NOTHING',
        report.id,
        good ? 1 : 0,
        held ? 1 : 0,
        JSON.stringify(report)
      )
      if (added === 0) return
      this.#noteRun(report)
      this.#bound()
    })
  }

  /** Completes a held report and lets it go out. No effect when there is none. */
  release(id: string, rest: Pick<BackupReport, 'nextAt' | 'removed'> = {}): void {
    const row = this.#database.get('SELECT report FROM backup_reports WHERE id = ?', id)
    if (row === undefined) return
    const report: BackupReport = { ...JSON.parse(String(row.report)), ...rest }
    this.#database.run(
      'UPDATE backup_reports SET held = 0, report = ? WHERE id = ?',
      JSON.stringify(report),
      id
    )
  }

  /** The newest report that is held; 0 where none is. */
  newestHeld(): number {
    const row = this.#database.get('SELECT max(sequence) AS newest FROM backup_reports WHERE held = 1')
    return Number(row?.newest ?? 0)
  }

  /** Lets all go out that are held, up to that one: those that an earlier run of the agent held. */
  releaseUpTo(newest: number): void {
    this.#database.run('UPDATE backup_reports SET held = 0 WHERE held = 1 AND sequence <= ?', newest)
  }

  /** The oldest reports that the scheduler has not acknowledged; a bounded number. */
  unacknowledged(): BackupReport[] {
    const rows = this.#database.all(
      'SELECT report FROM backup_reports WHERE held = 0 ORDER BY sequence LIMIT ?',
      reportsAtOnceMax
    )
    return rows.map(({ report }) => JSON.parse(String(report)))
  }

  /** The scheduler has these; they are forgotten. Unknown ones are ignored. */
  acknowledge(ids: readonly string[]): void {
    this.#database.transaction(() => {
      for (const id of ids) this.#database.run('DELETE FROM backup_reports WHERE id = ? AND held = 0', id)
    })
  }

  lastRun(uuid: string, target: string): BackupRun | undefined {
    const row = this.#database.get('SELECT * FROM backup_runs WHERE uuid = ? AND target = ?', uuid, target)
    return row && runOf(row)
  }

  /** How the backups of every VM have gone, by repository. */
  runs(): BackupRun[] {
    return this.#database.all('SELECT * FROM backup_runs ORDER BY uuid, target').map(runOf)
  }

  /** Since when a VM has been backed up there at these times, remembered from the first time that it is asked of it. */
  scheduledSince(uuid: string, { target, everyMs, cron, timeZone }: BackupSchedule): number {
    const text = JSON.stringify({ target, everyMs, cron, timeZone })
    const row = this.#database.get('SELECT schedule, since FROM backup_schedules WHERE uuid = ?', uuid)
    if (row?.schedule === text) return Number(row.since)
    const since = this.#clock.now()
    this.#database.run(
      `INSERT INTO backup_schedules (uuid, schedule, since) VALUES (?, ?, ?)
         ON CONFLICT (uuid) DO UPDATE SET schedule = excluded.schedule, since = excluded.since`,
      uuid,
      text,
      since
    )
    return since
  }

  /** These VMs have a schedule, and no others. */
  keepSchedules(uuids: ReadonlySet<string>): void {
    for (const { uuid } of this.#database.all('SELECT uuid FROM backup_schedules'))
      if (!uuids.has(String(uuid)))
        this.#database.run('DELETE FROM backup_schedules WHERE uuid = ?', String(uuid))
  }

  /** Forgets the runs of VMs that are not among `living`, and all but the newest of their last good backups. */
  prune(living: ReadonlySet<string>): void {
    this.#database.transaction(() => {
      for (const { uuid } of this.#database.all('SELECT DISTINCT uuid FROM backup_runs'))
        if (!living.has(String(uuid)))
          this.#database.run('DELETE FROM backup_runs WHERE uuid = ?', String(uuid))
      const good = this.#database.all('SELECT uuid, target FROM backup_good ORDER BY at DESC')
      for (const { uuid, target } of good.filter((row) => !living.has(String(row.uuid))).slice(goneGoodMax))
        this.#database.run(
          'DELETE FROM backup_good WHERE uuid = ? AND target = ?',
          String(uuid),
          String(target)
        )
    })
  }

  #noteRun({ uuid, target, vm, startedAt, finishedAt, record, error }: BackupReport): void {
    const good = record !== undefined
    this.#database.run(
      `INSERT INTO backup_runs (uuid, target, vm, started_at, finished_at, good_at, failures, error)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (uuid, target) DO UPDATE SET vm = excluded.vm,
           started_at = excluded.started_at, finished_at = excluded.finished_at,
           good_at = coalesce(excluded.good_at, good_at),
           failures = CASE excluded.failures WHEN 0 THEN 0 ELSE failures + 1 END, error = excluded.error`,
      uuid,
      target,
      vm,
      startedAt,
      finishedAt,
      good ? startedAt : null,
      good ? 0 : 1,
      error === undefined ? null : JSON.stringify(error)
    )
  }

  #bound(): void {
    const count = Number(this.#database.get('SELECT count(*) AS n FROM backup_reports')?.n ?? 0)
    if (count <= this.#reportsMax) return
    this.#database.run(
      `DELETE FROM backup_reports WHERE sequence IN
         (SELECT sequence FROM backup_reports ORDER BY good, sequence LIMIT ?)`,
      count - this.#reportsMax
    )
  }
}

function goodOf(row: Row): GoodBackup {
  const { checkpoint: name, checkpoint_xml: xml, damaged_snapshot: damaged, damage: fault } = row
  return {
    snapshot: String(row.snapshot),
    sequence: Number(row.sequence),
    at: Number(row.at),
    checkpoint: name === null || xml === null ? null : { name: String(name), xml: String(xml) },
    ...(damaged !== null && fault !== null && { damage: { snapshot: String(damaged), fault: String(fault) } })
  }
}

function runOf(row: Row): BackupRun {
  return {
    uuid: String(row.uuid),
    target: String(row.target),
    vm: String(row.vm),
    startedAt: Number(row.started_at),
    finishedAt: Number(row.finished_at),
    goodAt: row.good_at === null ? undefined : Number(row.good_at),
    failures: Number(row.failures),
    error: row.error === null ? undefined : JSON.parse(String(row.error))
  }
}
