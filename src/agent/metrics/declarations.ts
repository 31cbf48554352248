// The metrics that only an agent exports, of itself; those that the scheduler has too are in the protocol.

import type { MetricFamily } from '../../lib/exposition.ts'

const ofHost = ['host'] as const

export const agentMetrics = {
  info: gauge('hostlet_agent_info', [...ofHost, 'version'], 'Always 1: the version of the agent.'),
  ended: counter(
    'hostlet_agent_operations_ended_total',
    [...ofHost, 'verb', 'outcome'],
    'Operations that ended since the agent started. Outcomes: done, failed.'
  ),
  duration: {
    name: 'hostlet_agent_operation_duration_seconds',
    type: 'histogram',
    labels: [...ofHost, 'verb'],
    help: 'From the beginning of an operation to its end, of those that ended since the agent started.'
  },
  backupReadBytes: counter(
    'hostlet_agent_backup_read_bytes_total',
    ofHost,
    'Read from disks by good backups since the agent started.'
  ),
  backupStoredBytes: counter(
    'hostlet_agent_backup_stored_bytes_total',
    ofHost,
    'Added to repositories by good backups since the agent started.'
  ),
  schedulerConnected: gauge(
    'hostlet_agent_scheduler_connected',
    ofHost,
    '1 while the agent is connected to a scheduler, 0 while not.'
  ),
  schedulerConnects: counter(
    'hostlet_agent_scheduler_connects_total',
    ofHost,
    'Connections to a scheduler since the agent started, the first one included.'
  ),
  journalHealthy: gauge(
    'hostlet_agent_journal_healthy',
    ofHost,
    '1 while the journal of commands takes what is written, 0 while not.'
  ),
  journalBytes: gauge('hostlet_agent_journal_bytes', ofHost, 'Size of the journal with its write-ahead log.'),
  samplesWaiting: gauge(
    'hostlet_agent_samples_waiting',
    ofHost,
    'Rounds of metrics that wait for the scheduler.'
  ),
  samplesDropped: counter(
    'hostlet_agent_samples_dropped_total',
    ofHost,
    'Rounds of metrics that were lost since the agent started because too many waited.'
  ),
  statisticsCall: gauge(
    'hostlet_agent_libvirt_statistics_seconds',
    ofHost,
    'How long libvirt took for the counters of all VMs in the last round that it answered.'
  )
} as const satisfies Readonly<Record<string, MetricFamily>>

function gauge(name: string, labels: readonly string[], help: string): MetricFamily {
  return { name, type: 'gauge', labels, help }
}

function counter(name: string, labels: readonly string[], help: string): MetricFamily {
  return { name, type: 'counter', labels, help }
}
