// Placement in SQLite: labels of hosts, and the explanation that each placed command leaves.

import { HostletError } from '../../errors.ts'
import { type Labels, labelsMax, type PlacementView } from '../../protocol/placement.ts'
import type { HostLoad } from '../placement/candidate.ts'
import type { PlacementStore } from './placement-store.ts'
import { fromJson } from './rows.ts'
import type { Sqlite } from './sqlite.ts'

const withReports = 'LEFT JOIN vm_reports ON vm_reports.host = vms.host AND vm_reports.uuid = vms.uuid'
/** Torn down, off for good, and only its disks are there yet. */
const isKept = `coalesce(json_extract(vm_reports.summary, '$.retainedUntil') IS NOT NULL, FALSE)`

export class PlacementTable implements PlacementStore {
  readonly #sqlite: Sqlite

  constructor(sqlite: Sqlite) {
    this.#sqlite = sqlite
  }

  async label(host: string, { set, remove }: { set: Labels; remove: readonly string[] }): Promise<Labels> {
    return this.#sqlite.transaction(() => {
      for (const key of remove)
        this.#sqlite.run('DELETE FROM host_labels WHERE host = :host AND key = :key', { host, key })
      for (const [key, value] of Object.entries(set))
        this.#sqlite.run(
          `INSERT INTO host_labels (host, key, value) VALUES (:host, :key, :value)
           ON CONFLICT (host, key) DO UPDATE SET value = excluded.value`,
          { host, key, value }
        )
      const rows = this.#sqlite.all<{ key: string; value: string }>(
        'SELECT key, value FROM host_labels WHERE host = :host ORDER BY key',
        { host }
      )
      if (rows.length > labelsMax)
        throw new HostletError(
          'E_BAD_REQUEST',
          `host ${host} would have ${rows.length} labels, at most ${labelsMax} are kept. Remove some with "hostlet host label ${host} KEY-".`
        )
      return Object.fromEntries(rows.map(({ key, value }) => [key, value]))
    })
  }

  async loadByHost(): Promise<ReadonlyMap<string, HostLoad>> {
    const rows = this.#sqlite.all<{ host: string } & HostLoad>(
      `SELECT vms.host, sum(iif(${isKept}, 0, memory_bytes)) AS memoryBytes, sum(iif(${isKept}, 0, cpus)) AS cpus,
         sum(coalesce(json_extract(specification, '$.rootDiskBytes'), 0)
           + coalesce(json_extract(specification, '$.dataDiskBytes'), 0)) AS diskBytes
       FROM vms ${withReports} GROUP BY vms.host`
    )
    return new Map(rows.map(({ host, ...load }) => [host, load]))
  }

  async groupByHost(group: string): Promise<ReadonlyMap<string, number>> {
    const rows = this.#sqlite.all<{ host: string; count: number }>(
      `SELECT vms.host, count(*) AS count FROM vms ${withReports}
       WHERE vm_group = :group AND NOT ${isKept} GROUP BY vms.host`,
      { group }
    )
    return new Map(rows.map(({ host, count }) => [host, count]))
  }

  async of(command: string): Promise<PlacementView | undefined> {
    const row = this.#sqlite.get<{ explanation: string }>(
      'SELECT explanation FROM placements WHERE command = :command',
      { command }
    )
    return row && fromJson<PlacementView>(row.explanation)
  }
}
