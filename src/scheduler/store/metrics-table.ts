// Metrics history in SQLite: one row a host, or VM, and sample.

import type { HostSample, MetricsSample, VmSample } from '../../protocol/metrics.ts'
import type { MetricsRange, MetricsStore, Point } from './observation-store.ts'
import { fromJson } from './rows.ts'
import type { Sqlite } from './sqlite.ts'

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

  async ofHost(host: string, range: MetricsRange): Promise<readonly Point<HostSample>[]> {
    const rows = this.#sqlite.all<SampleRow>(pointsOf('host_metrics', 'host = :host', range), {
      host,
      ...rangeOf(range)
    })
    return rows.reverse().map((row) => toPoint<HostSample>(row))
  }

  async ofVm(
    { host, uuid }: { host: string; uuid: string },
    range: MetricsRange
  ): Promise<readonly Point<VmSample>[]> {
    const rows = this.#sqlite.all<SampleRow>(pointsOf('vm_metrics', 'host = :host AND uuid = :uuid', range), {
      host,
      uuid,
      ...rangeOf(range)
    })
    return rows.reverse().map((row) => toPoint<VmSample>(row))
  }

  async latestOfHosts(): Promise<ReadonlyMap<string, Point<HostSample>>> {
    const rows = this.#sqlite.all<SampleRow & { id: string }>(
      `SELECT hosts.id, newest.at, newest.sample FROM hosts JOIN host_metrics AS newest ON newest.sequence =
         (SELECT sequence FROM host_metrics WHERE host = hosts.id ORDER BY at DESC LIMIT 1)`
    )
    return new Map(rows.map((row) => [row.id, toPoint<HostSample>(row)]))
  }

  async latestOfVm({ host, uuid }: { host: string; uuid: string }): Promise<Point<VmSample> | undefined> {
    const row = this.#sqlite.get<SampleRow>(
      'SELECT at, sample FROM vm_metrics WHERE host = :host AND uuid = :uuid ORDER BY at DESC LIMIT 1',
      { host, uuid }
    )
    return row && toPoint<VmSample>(row)
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

/**
 * The newest first. Of each group SQLite takes the other columns of the row that has the maximum; the cast, since Node binds
 * every number as a real one.
 */
function pointsOf(table: string, condition: string, { step }: MetricsRange): string {
  const columns = step === undefined ? 'at' : 'max(at) AS at'
  const groups = step === undefined ? '' : 'GROUP BY at / CAST(:step AS INTEGER)'
  return `SELECT ${columns}, sample FROM ${table} WHERE ${condition} AND at >= :since ${groups} ORDER BY 1 DESC LIMIT :limit`
}

function rangeOf({ since, limit, step }: MetricsRange): Record<string, number> {
  return step === undefined ? { since, limit } : { since, limit, step }
}

function toPoint<Sample>(row: SampleRow): Point<Sample> {
  return { at: row.at, sample: fromJson<Sample>(row.sample) }
}
