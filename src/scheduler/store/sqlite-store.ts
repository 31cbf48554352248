// The store on one machine: every table over one SQLite connection, and the bounds on what is kept.

import { ApprovalTable } from './approval-table.ts'
import { AuditTable } from './audit-table.ts'
import { BackupTable } from './backup-table.ts'
import { CommandTable } from './command-table.ts'
import { DiskKeyTable } from './disk-key-table.ts'
import { EraseTable } from './erase-table.ts'
import { EventTable } from './event-table.ts'
import { FleetTable } from './fleet-table.ts'
import { HostTable } from './host-table.ts'
import { KeyTable } from './key-table.ts'
import { MetricsTable } from './metrics-table.ts'
import { PlacementTable } from './placement-table.ts'
import { SecondFactorTable } from './second-factor-table.ts'
import { SessionTable } from './session-table.ts'
import { Sqlite, type SqliteOptions } from './sqlite.ts'
import type { Bound, Store, StoreBounds } from './store.ts'
import { TokenTable } from './token-table.ts'
import { TrailTable } from './trail-table.ts'
import { TrustTable } from './trust-table.ts'
import { VmTable } from './vm-table.ts'

/** Rows that one statement of a round deletes at most, so that the process goes on meanwhile; the next round takes the rest. */
const pruneRowsMax = 20_000

export class SqliteStore implements Store {
  readonly tokens: TokenTable
  readonly hosts: HostTable
  readonly vms: VmTable
  readonly commands: CommandTable
  readonly approvals: ApprovalTable
  readonly metrics: MetricsTable
  readonly events: EventTable
  readonly fleet: FleetTable
  readonly backups: BackupTable
  readonly erasures: EraseTable
  readonly diskKeys: DiskKeyTable
  readonly keys: KeyTable
  readonly placements: PlacementTable
  readonly sessions: SessionTable
  readonly secondFactors: SecondFactorTable
  readonly audit: AuditTable
  readonly trails: TrailTable
  readonly trust: TrustTable
  readonly #sqlite: Sqlite
  readonly #bounds: StoreBounds
  #changesOfOthers = ''

  constructor(directory: string, bounds: StoreBounds, options: SqliteOptions = {}) {
    const sqlite = new Sqlite(directory, options)
    this.#sqlite = sqlite
    this.#bounds = bounds
    this.tokens = new TokenTable(sqlite)
    this.hosts = new HostTable(sqlite)
    this.vms = new VmTable(sqlite)
    this.commands = new CommandTable(sqlite)
    this.approvals = new ApprovalTable(sqlite)
    this.metrics = new MetricsTable(sqlite)
    this.events = new EventTable(sqlite)
    this.fleet = new FleetTable(sqlite)
    this.backups = new BackupTable(sqlite)
    this.erasures = new EraseTable(sqlite)
    this.diskKeys = new DiskKeyTable(sqlite)
    this.keys = new KeyTable(sqlite)
    this.placements = new PlacementTable(sqlite)
    this.sessions = new SessionTable(sqlite)
    this.secondFactors = new SecondFactorTable(sqlite, this.sessions)
    this.audit = new AuditTable(sqlite)
    this.trails = new TrailTable(sqlite)
    this.trust = new TrustTable(sqlite)
  }

  async prune(now: number): Promise<number> {
    const { commands, metrics, events, audit } = this.#bounds
    const ended = `state NOT IN ('waiting', 'sent', 'running')`
    const removed = 'removed_at IS NOT NULL'
    const counts = [
      this.#pruneTable({ table: 'commands', time: 'created_at', bound: commands, only: ended, now }),
      this.#pruneTable({ table: 'backup_runs', time: 'finished_at', bound: commands, now }),
      this.#pruneTable({
        table: 'backup_snapshots',
        time: 'removed_at',
        bound: commands,
        only: removed,
        now
      }),
      this.#pruneTable({ table: 'disk_keys', time: 'removed_at', bound: commands, only: removed, now }),
      this.#pruneTable({ table: 'host_metrics', time: 'at', bound: metrics, now }),
      this.#pruneTable({ table: 'vm_metrics', time: 'at', bound: metrics, now }),
      this.#pruneTable({ table: 'events', time: 'received_at', bound: events, now }),
      audit === undefined ? 0 : this.audit.prune(audit, now),
      await this.sessions.forgetEnded(now),
      await this.keys.forgetExpired(now - commands.keepMs),
      this.#sqlite.run('DELETE FROM tokens WHERE expires_at < :before', { before: now - commands.keepMs })
    ]
    if (counts[0] !== 0)
      this.#sqlite.run('DELETE FROM progress WHERE command NOT IN (SELECT id FROM commands)')
    if (counts[2] !== 0)
      this.#sqlite.run('DELETE FROM backup_sources WHERE uuid NOT IN (SELECT uuid FROM backup_snapshots)')
    return counts.reduce((sum, count) => sum + count, 0)
  }

  async changedByOthers(): Promise<boolean> {
    const seen = this.#changesOfOthers
    this.#changesOfOthers = this.#sqlite.changesOfOthers()
    return seen !== this.#changesOfOthers
  }

  async close(): Promise<void> {
    this.#sqlite.close()
  }

  /** Table, column and condition are constants of this file, never input. */
  #pruneTable({ table, time, bound, only = 'TRUE', now }: Pruning): number {
    return this.#sqlite.run(
      `DELETE FROM ${table} WHERE sequence IN (SELECT sequence FROM ${table} WHERE ${only} AND (${time} < :before OR
         sequence <= (SELECT max(sequence) FROM ${table}) - :rowsMax) ORDER BY sequence LIMIT :limit)`,
      { before: now - bound.keepMs, rowsMax: bound.rowsMax, limit: pruneRowsMax }
    )
  }
}

interface Pruning {
  readonly table:
    | 'commands'
    | 'backup_runs'
    | 'backup_snapshots'
    | 'disk_keys'
    | 'host_metrics'
    | 'vm_metrics'
    | 'events'
  readonly time: 'created_at' | 'finished_at' | 'removed_at' | 'at' | 'received_at'
  readonly bound: Bound
  readonly only?: string
  readonly now: number
}
