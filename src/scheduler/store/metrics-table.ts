// Metrics history in SQLite: one row a host, or VM, and sample.

import type { HostSample, MetricsSample, VmSample } from '../../protocol/metrics.ts'
import { fromJson } from './rows.ts'
import type { Sqlite } from './sqlite.ts'
import type { MetricsStore, Point } from './store.ts'

interface SampleRow {
  readonly at: number
  readonly sample: string
}

export class MetricsTable implements MetricsStore {
  readonly #sqlite: Sqlite

  constructor(sqlite: Sqlite) {
    this.#sqlite = sqlite
  }

  /** A sample that was stored already, and is sent again after a lost connection, changes nothing. */
  async add(host: string, samples: readonly MetricsSample[]): Promise<void> {
    this.#sqlite.transaction(() => {
      for (const sample of samples) this.#addOne(host, sample)
    })
  }

  async ofHost(
    host: string,
    { since, limit }: { since: number; limit: number }
  ): Promise<readonly Point<HostSample>[]> {
    const rows = this.#sqlite.all<SampleRow>(
      'SELECT at, sample FROM host_metrics WHERE host = :host AND at >= :since ORDER BY at DESC LIMIT :limit',
      { host, since, limit }
    )
    return rows.reverse().map((row) => toPoint<HostSample>(row))
  }

  async ofVm(
    { host, uuid }: { host: string; uuid: string },
    { since, limit }: { since: number; limit: number }
  ): Promise<readonly Point<VmSample>[]> {
    const rows = this.#sqlite.all<SampleRow>(
      `SELECT at, sample FROM vm_metrics WHERE host = :host AND uuid = :uuid AND at >= :since
       ORDER BY at DESC LIMIT :limit`,
      { host, uuid, since, limit }
    )
    return rows.reverse().map((row) => toPoint<VmSample>(row))
  }

  async latestOfHosts(): Promise<ReadonlyMap<string, Point<HostSample>>> {
    const rows = this.#sqlite.all<SampleRow & { id: string }>(
      `SELECT hosts.id, newest.at, newest.sample FROM hosts JOIN host_metrics AS newest ON newest.sequence =
         (SELECT sequence FROM host_metrics WHERE host = hosts.id ORDER BY at DESC LIMIT 1)`
    )
    return new Map(rows.map((row) => [row.id, toPoint<HostSample>(row)]))
  }

  async latestOfVms(): Promise<ReadonlyMap<string, Point<VmSample>>> {
    const rows = this.#sqlite.all<SampleRow & { name: string }>(
      `SELECT vms.name, newest.at, newest.sample FROM vms JOIN vm_metrics AS newest ON newest.sequence =
         (SELECT sequence FROM vm_metrics WHERE host = vms.host AND uuid = vms.uuid ORDER BY at DESC LIMIT 1)`
    )
    return new Map(rows.map((row) => [row.name, toPoint<VmSample>(row)]))
  }

  #addOne(host: string, { at, host: figures, vms }: MetricsSample): void {
    this.#sqlite.run('INSERT OR IGNORE INTO host_metrics (host, at, sample) VALUES (:host, :at, :sample)', {
      host,
      at,
      sample: JSON.stringify(figures)
    })
    for (const vm of vms)
      this.#sqlite.run(
        'INSERT OR IGNORE INTO vm_metrics (host, uuid, at, sample) VALUES (:host, :uuid, :at, :sample)',
        { host, uuid: vm.uuid, at, sample: JSON.stringify(vm) }
      )
  }
}

function toPoint<Sample>(row: SampleRow): Point<Sample> {
  return { at: row.at, sample: fromJson<Sample>(row.sample) }
}
