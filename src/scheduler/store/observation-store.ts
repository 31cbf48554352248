// What the store keeps of what hosts see: samples and events, bounded, each lost without harm.

import type { EventView } from '../../protocol/api.ts'
import type { VmEvent } from '../../protocol/messages.ts'
import type { HostSample, MetricsSample, VmSample } from '../../protocol/metrics.ts'
import type { Page } from './store.ts'

export interface Point<Sample> {
  readonly at: number
  readonly sample: Sample
}

/** The newest points since then, at most so many; with `step` one of each span of so many milliseconds. */
export interface MetricsRange {
  readonly since: number
  readonly limit: number
  readonly step?: number | undefined
}

export interface MetricsStore {
  add(host: string, samples: readonly MetricsSample[]): Promise<void>
  ofHost(host: string, range: MetricsRange): Promise<readonly Point<HostSample>[]>
  ofVm(vm: { host: string; uuid: string }, range: MetricsRange): Promise<readonly Point<VmSample>[]>
  latestOfHosts(): Promise<ReadonlyMap<string, Point<HostSample>>>
  latestOfVm(vm: { host: string; uuid: string }): Promise<Point<VmSample> | undefined>
}

export interface EventFilter {
  readonly after: number
  readonly vm?: string | undefined
  readonly newest?: boolean | undefined
}

export interface EventStore {
  add(host: string, event: VmEvent, at: number): Promise<void>
  /** Oldest first; with `newest` the last ones of them instead of the first. */
  list(filter: EventFilter, limit: number): Promise<Page<EventView>>
}
