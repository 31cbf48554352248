// VMs in SQLite: what was asked for, joined with what their hosts last said.

import { HostletError } from '../../errors.ts'
import type { VmSummary } from '../../protocol/vm.ts'
import { dropVm } from './command-vm.ts'
import { fromJson, fromJsonOrNull, given, page } from './rows.ts'
import type { Sqlite } from './sqlite.ts'
import type { Page, VmFilter, VmRecord, VmStore } from './store.ts'

interface VmRow {
  readonly name: string
  readonly uuid: string
  readonly host: string
  readonly wanted: VmRecord['wanted']
  readonly generation: number
  readonly profile: string
  readonly cpus: number
  readonly memory_bytes: number
  readonly created_at: number
  readonly specification: string | null
  readonly placement: string | null
  readonly operation: string | null
  readonly host_revoked_at: number | null
  readonly host_state: string | null
  readonly summary: string | null
  readonly reported_at: number
  readonly present: number
}

const select = `
  SELECT vms.*, hosts.revoked_at AS host_revoked_at, host_reports.state AS host_state, vm_reports.summary,
    vm_reports.reported_at, vm_reports.present
  FROM vms JOIN hosts ON hosts.id = vms.host
  LEFT JOIN host_reports ON host_reports.host = vms.host
  LEFT JOIN vm_reports ON vm_reports.host = vms.host AND vm_reports.name = vms.name AND vm_reports.uuid = vms.uuid`

/** What views/vm-view.ts says of it, in SQL. */
const stateOf = `CASE WHEN summary IS NULL THEN 'pending' WHEN present = 0 THEN 'missing'
  WHEN json_extract(summary, '$.retainedUntil') IS NOT NULL THEN 'retained' ELSE json_extract(summary, '$.state') END`

const isAmiss = `(summary IS NOT NULL AND json_extract(summary, '$.retainedUntil') IS NULL AND (present = 0
  OR iif(vms.wanted = 'running', 'running', 'stopped') <> json_extract(summary, '$.state')
  OR coalesce(json_array_length(summary, '$.drift'), 0) > 0
  OR EXISTS (SELECT 1 FROM json_each(summary, '$.health') WHERE json_extract(value, '$.state') = 'unhealthy')))`

const isAsked = `(:host IS NULL OR vms.host = :host) AND (:after IS NULL OR vms.name > :after)
  AND (:state IS NULL OR ${stateOf} = :state) AND (:amiss IS NULL OR ${isAmiss} = :amiss)
  AND (:search IS NULL OR instr(vms.name, :search) OR instr(vms.host, :search) OR instr(vms.profile, :search)
    OR instr(coalesce(json_extract(summary, '$.address'), ''), :search))`

export class VmTable implements VmStore {
  readonly #sqlite: Sqlite

  constructor(sqlite: Sqlite) {
    this.#sqlite = sqlite
  }

  async find(name: string): Promise<VmRecord | undefined> {
    const row = this.#sqlite.get<VmRow>(`${select} WHERE vms.name = :name`, { name })
    return row === undefined ? undefined : toRecord(row)
  }

  async list({ host, state, search, amiss, after }: VmFilter, limit: number): Promise<Page<VmRecord>> {
    const rows = this.#sqlite.all<VmRow>(`${select} WHERE ${isAsked} ORDER BY vms.name LIMIT :limit`, {
      host: host ?? null,
      state: state ?? null,
      search: search?.toLowerCase() ?? null,
      amiss: amiss === undefined ? null : Number(amiss),
      after: after ?? null,
      limit: limit + 1
    })
    return page(rows, limit, toRecord)
  }

  async forget(name: string): Promise<boolean> {
    return this.#sqlite.transaction(() => {
      const vm = this.#sqlite.get<{ host: string; uuid: string; revoked_at: number | null }>(
        'SELECT host, uuid, revoked_at FROM vms JOIN hosts ON hosts.id = vms.host WHERE name = :name',
        { name }
      )
      if (vm === undefined) return false
      if (vm.revoked_at === null) throw notRevoked(name, vm.host)
      dropVm(this.#sqlite, { name, host: vm.host, uuid: vm.uuid })
      return true
    })
  }
}

function notRevoked(name: string, host: string): HostletError {
  return new HostletError(
    'E_CONFLICT',
    `VM ${name} is on host ${host}, which is not revoked. Tear it down with "hostlet vm rm ${name}"; if the host is gone for good, revoke it first with "hostlet host rm ${host}".`
  )
}

function toRecord(row: VmRow): VmRecord {
  return {
    name: row.name,
    uuid: row.uuid,
    host: row.host,
    wanted: row.wanted,
    generation: row.generation,
    profile: row.profile,
    cpus: row.cpus,
    memoryBytes: row.memory_bytes,
    createdAt: row.created_at,
    specification: fromJsonOrNull(row.specification),
    wish: fromJsonOrNull(row.placement),
    operation: given(row.operation),
    hostConnected: row.host_state === 'connected',
    hostRevoked: row.host_revoked_at !== null,
    report:
      row.summary === null
        ? undefined
        : {
            ...fromJson<VmSummary>(row.summary),
            reportedAt: row.reported_at,
            present: row.present === 1
          }
  }
}
