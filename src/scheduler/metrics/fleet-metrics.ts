// The scheduler's metrics as text in pieces: its own counts, and the fleet as the store knows it.

import { setImmediate } from 'node:timers/promises'
import type { Clock } from '../../lib/clock.ts'
import { familyText, type MetricFamily } from '../../lib/exposition.ts'
import { processText } from '../../lib/process-metrics.ts'
import type { FleetStore } from '../store/fleet-store.ts'
import { schedulerMetrics } from './declarations.ts'
import { readFleet } from './fleet-reader.ts'
import type { SchedulerTallies } from './scheduler-tallies.ts'
import type { Series } from './series.ts'

export interface FleetMetricsOptions {
  readonly store: FleetStore
  readonly clock: Pick<Clock, 'now' | 'monotonic'>
  readonly tallies: SchedulerTallies
  readonly version: string
  readonly metricsIntervalMs: number
  /** When the CA that signs and the certificate that is served expire, in milliseconds since the epoch. */
  expiries(): { readonly authority: number; readonly server: number }
}

interface Reading {
  readonly series: Series
  readonly seconds: number
}

export class FleetMetrics {
  readonly #options: FleetMetricsOptions
  /** By whether VMs are wanted: those who ask at the same time share a reading. */
  readonly #readings = new Map<boolean, Promise<Reading>>()

  constructor(options: FleetMetricsOptions) {
    this.#options = options
  }

  /** Resolves once the fleet is read; then the text, in pieces between which others have their turn. Throws what the store throws. */
  async read({ vms }: { vms: boolean }): Promise<AsyncIterable<string>> {
    const { series, seconds } = await this.#reading(vms)
    return this.#pieces(series, seconds)
  }

  #reading(vms: boolean): Promise<Reading> {
    const known = this.#readings.get(vms)
    if (known !== undefined) return known
    const reading = this.#readNow(vms).finally(() => this.#readings.delete(vms))
    this.#readings.set(vms, reading)
    return reading
  }

  async #readNow(vms: boolean): Promise<Reading> {
    const { store, clock, metricsIntervalMs } = this.#options
    const startedAt = clock.monotonic()
    const series = await readFleet({ store, now: clock.now(), metricsIntervalMs, vms })
    return { series, seconds: (clock.monotonic() - startedAt) / 1_000 }
  }

  async *#pieces(series: Series, seconds: number): AsyncGenerator<string> {
    yield this.#own(seconds)
    for (const piece of series.pieces()) {
      yield piece
      await setImmediate()
    }
  }

  #own(readSeconds: number): string {
    const { version, tallies } = this.#options
    const { authority, server } = this.#options.expiries()
    const one = (family: MetricFamily, value: number) => familyText(family, [[{}, value]])
    return [
      familyText(schedulerMetrics.info, [[{ version }, 1]]),
      one(schedulerMetrics.authorityExpiry, authority / 1_000),
      one(schedulerMetrics.certificateExpiry, server / 1_000),
      one(schedulerMetrics.readDuration, readSeconds),
      tallies.text(),
      processText()
    ].join('')
  }
}
