// The fleet in slices out of SQLite: each statement reads so many rows by an index that no other request waits long for it.

import type { BackupRecord, BackupSchedule } from '../../protocol/backup.ts'
import type { Condition } from '../../protocol/messages.ts'
import type { HostSample, VmSample } from '../../protocol/metrics.ts'
import type { VmSummary } from '../../protocol/vm.ts'
import type { FleetBackup, FleetHost, FleetStore, FleetVm, OpenOperations } from './fleet-store.ts'
import { fromJson, fromJsonOrNull, given } from './rows.ts'
import type { Sqlite } from './sqlite.ts'
import type { Point } from './store.ts'

interface NewestRow {
  readonly sample_at: number | null
  readonly sample: string | null
}

interface HostRow extends NewestRow {
  readonly id: string
  readonly hostname: string
  readonly certificate_expires_at: number
  readonly revoked_at: number | null
  readonly cloned_at: number | null
  readonly trail_fault_at: number | null
  readonly state: string | null
  readonly connected_at: number
  readonly last_seen_at: number
  readonly agent_version: string
  readonly hypervisor: string
  readonly operations_running: number
  readonly operations_waiting: number
  readonly draining_since: number | null
  readonly conditions: string
  readonly clock_skew_ms: number | null
}

interface VmRow extends NewestRow {
  readonly name: string
  readonly uuid: string
  readonly host: string
  readonly cpus: number
  readonly profile: string
  readonly wanted: FleetVm['wanted']
  readonly summary: string | null
  readonly present: number | null
  readonly schedule: string | null
  readonly set_at: number | null
}

const hostSlice = `
  SELECT hosts.id, hosts.hostname, hosts.certificate_expires_at, hosts.revoked_at, hosts.cloned_at,
    trail_faults.at AS trail_fault_at, report.state, report.connected_at, report.last_seen_at, report.agent_version,
    report.hypervisor, report.operations_running, report.operations_waiting, report.draining_since, report.conditions,
    report.clock_skew_ms, newest.at AS sample_at, newest.sample
  FROM hosts LEFT JOIN host_reports AS report ON report.host = hosts.id
    LEFT JOIN trail_faults ON trail_faults.host = hosts.id
    LEFT JOIN host_metrics AS newest ON newest.sequence =
      (SELECT sequence FROM host_metrics WHERE host = hosts.id ORDER BY at DESC LIMIT 1)
  WHERE hosts.id > :after ORDER BY hosts.id LIMIT :limit`

const vmSlice = `
  SELECT vms.name, vms.uuid, vms.host, vms.cpus, vms.profile, vms.wanted, report.summary, report.present,
    backup_schedules.schedule, backup_schedules.set_at, newest.at AS sample_at, newest.sample
  FROM vms LEFT JOIN vm_reports AS report ON report.host = vms.host AND report.name = vms.name AND report.uuid = vms.uuid
    LEFT JOIN backup_schedules ON backup_schedules.uuid = vms.uuid
    LEFT JOIN vm_metrics AS newest ON newest.sequence =
      (SELECT sequence FROM vm_metrics WHERE host = vms.host AND uuid = vms.uuid ORDER BY at DESC LIMIT 1)
  WHERE vms.name > :after ORDER BY vms.name LIMIT :limit`

/** With max() the other columns are those of the row that it was found in (sqlite.org/lang_select.html, bare columns). */
const backupSlice = `
  SELECT backup_snapshots.uuid, target, max(taken_at) AS taken_at, record
  FROM vms CROSS JOIN backup_snapshots ON backup_snapshots.uuid = vms.uuid
  WHERE vms.name > :after AND vms.name <= :last AND removed_at IS NULL GROUP BY backup_snapshots.uuid, target`

export class FleetTable implements FleetStore {
  readonly #sqlite: Sqlite

  constructor(sqlite: Sqlite) {
    this.#sqlite = sqlite
  }

  async hosts(after: string, limit: number): Promise<readonly FleetHost[]> {
    return this.#sqlite.all<HostRow>(hostSlice, { after, limit }).map(toHost)
  }

  async vms(after: string, limit: number): Promise<readonly FleetVm[]> {
    return this.#sqlite.all<VmRow>(vmSlice, { after, limit }).map(toVm)
  }

  async backups(after: string, last: string): Promise<readonly FleetBackup[]> {
    const rows = this.#sqlite.all<{ uuid: string; target: string; taken_at: number; record: string }>(
      backupSlice,
      { after, last }
    )
    return rows.map(({ uuid, target, taken_at: at, record }) => {
      const { durationMs, readBytes, storedBytes } = fromJson<BackupRecord>(record)
      return { uuid, target, at, durationMs, readBytes, storedBytes }
    })
  }

  async openOperations(): Promise<readonly OpenOperations[]> {
    return this.#sqlite.all<{ state: string; verb: string; count: number }>(
      `SELECT state, verb, count(*) AS count FROM commands WHERE state IN ('waiting', 'sent', 'running')
       GROUP BY state, verb`
    )
  }

  async sizes(): Promise<readonly { file: string; bytes: number }[]> {
    return (['main', 'observed'] as const).map((schema) => {
      const pages = this.#sqlite.get<{ page_count: number }>(`PRAGMA ${schema}.page_count`)?.page_count ?? 0
      const size = this.#sqlite.get<{ page_size: number }>(`PRAGMA ${schema}.page_size`)?.page_size ?? 0
      return { file: schema === 'main' ? 'scheduler.db' : 'observed.db', bytes: pages * size }
    })
  }
}

function toHost(row: HostRow): FleetHost {
  return {
    id: row.id,
    hostname: row.hostname,
    certificateExpiresAt: row.certificate_expires_at,
    isRevoked: row.revoked_at !== null,
    isCloned: row.cloned_at !== null,
    hasTrailFault: row.trail_fault_at !== null,
    report:
      row.state === null
        ? undefined
        : {
            isConnected: row.state === 'connected',
            connectedAt: row.connected_at,
            lastSeenAt: row.last_seen_at,
            agentVersion: row.agent_version,
            isHypervisorConnected: row.hypervisor === 'connected',
            operationsRunning: row.operations_running,
            operationsWaiting: row.operations_waiting,
            isDraining: row.draining_since !== null,
            conditions: fromJson<Condition[]>(row.conditions),
            clockSkewMs: given(row.clock_skew_ms)
          },
    newest: toNewest<HostSample>(row)
  }
}

function toVm(row: VmRow): FleetVm {
  const { name, uuid, host, cpus, profile, wanted, schedule, set_at: setAt } = row
  return {
    ...{ name, uuid, host, cpus, profile, wanted },
    summary: fromJsonOrNull<VmSummary>(row.summary),
    isPresent: row.present === 1,
    newest: toNewest<VmSample>(row),
    schedule:
      schedule === null || setAt === null
        ? undefined
        : { schedule: fromJson<BackupSchedule>(schedule), setAt }
  }
}

function toNewest<Sample>({ sample_at: at, sample }: NewestRow): Point<Sample> | undefined {
  return at === null || sample === null ? undefined : { at, sample: fromJson<Sample>(sample) }
}
