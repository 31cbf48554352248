// Every metric that hostlet exports, by who exports it: what the reference, the dashboard and the tests of both go by.

import { agentMetrics } from '../src/agent/metrics/declarations.ts'
import type { MetricFamily } from '../src/lib/exposition.ts'
import { processMetrics } from '../src/lib/process-metrics.ts'
import {
  backupMetrics,
  hostMetrics,
  hostSampleMetrics,
  vmMetrics,
  vmSampleMetrics
} from '../src/protocol/exported-metrics.ts'
import { hostStandingMetrics, schedulerMetrics } from '../src/scheduler/metrics/declarations.ts'

export interface MetricSection {
  readonly title: string
  readonly families: readonly MetricFamily[]
  /** Those of these that the agent does not have. */
  readonly onlyScheduler?: readonly MetricFamily[]
}

/** Exported by agents and by the scheduler, under the same names and labels. */
export const sharedSections: readonly MetricSection[] = [
  { title: 'Hosts', families: [...Object.values(hostMetrics), ...hostSampleMetrics] },
  { title: 'VMs', families: [...Object.values(vmMetrics), ...vmSampleMetrics] },
  {
    title: 'Backups',
    families: Object.values(backupMetrics),
    onlyScheduler: [backupMetrics.readBytes, backupMetrics.storedBytes]
  },
  { title: 'The process', families: processMetrics }
]

export const agentSections: readonly MetricSection[] = [
  { title: 'Only agents', families: Object.values(agentMetrics) }
]

export const schedulerSections: readonly MetricSection[] = [
  { title: 'Only the scheduler, of each host', families: Object.values(hostStandingMetrics) },
  { title: 'Only the scheduler, of itself and the fleet', families: Object.values(schedulerMetrics) }
]

export const allFamilies: readonly MetricFamily[] = [
  ...sharedSections,
  ...agentSections,
  ...schedulerSections
].flatMap(({ families }) => families)

/** Names that a query may use: a histogram has three. */
export const queryableNames: ReadonlySet<string> = new Set(
  allFamilies.flatMap(({ name, type }) =>
    type === 'histogram' ? [`${name}_bucket`, `${name}_sum`, `${name}_count`] : [name]
  )
)

/** Names of metrics in a query, recorded ones (with colons) left out. */
export function metricNamesIn(query: string): string[] {
  const bare = query.replaceAll(/"[^"]*"|\{[^}]*\}/g, '')
  return bare.match(/(?<![\w:])(?:hostlet|process|nodejs)_[a-z0-9_]+(?![\w:])/g) ?? []
}
