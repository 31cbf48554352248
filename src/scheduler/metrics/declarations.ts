// The metrics that only the scheduler exports: of itself, and of hosts what they cannot say themselves.

import type { MetricFamily } from '../../lib/exposition.ts'

const ofHost = ['host'] as const

/** Of each host, besides what its agent exports under the same names. */
export const hostStandingMetrics = {
  up: gauge(
    'hostlet_host_up',
    ofHost,
    '1 while the agent of the host is connected, 0 while not. Revoked hosts are left out.'
  ),
  connectedSince: gauge(
    'hostlet_host_connected_timestamp_seconds',
    ofHost,
    'When the newest connection of the host began, seconds since the epoch: it changes with each one.'
  ),
  lastSeen: gauge(
    'hostlet_host_last_seen_timestamp_seconds',
    ofHost,
    'When the host was last heard, seconds since the epoch.'
  ),
  clockSkew: gauge(
    'hostlet_host_clock_skew_seconds',
    ofHost,
    'The clock of the host minus that of the scheduler.'
  )
} as const satisfies Readonly<Record<string, MetricFamily>>

export const schedulerMetrics = {
  info: gauge('hostlet_scheduler_info', ['version'], 'Always 1: the version of the scheduler.'),
  hosts: gauge('hostlet_scheduler_hosts', ['state'], 'Hosts by their state: new, connected, away, revoked.'),
  vms: gauge(
    'hostlet_scheduler_vms',
    ['state'],
    'VMs by their state: pending, missing, retained, unknown while the host is away, or the state that the host tells.'
  ),
  operationsOpen: gauge(
    'hostlet_scheduler_operations_open',
    ['state', 'verb'],
    'Operations that have not ended. States: waiting, sent, running.'
  ),
  operationsEnded: counter(
    'hostlet_scheduler_operations_ended_total',
    ['verb', 'outcome'],
    'Operations that ended since the scheduler started. Outcomes: done, failed, expired.'
  ),
  operationDuration: {
    name: 'hostlet_scheduler_operation_duration_seconds',
    type: 'histogram',
    labels: ['verb'],
    help: 'From the request for an operation to its end, of those that ended since the scheduler started.'
  },
  requests: counter(
    'hostlet_scheduler_api_requests_total',
    ['method', 'route', 'status'],
    'Requests of the API since the scheduler started.'
  ),
  requestDuration: {
    name: 'hostlet_scheduler_api_request_duration_seconds',
    type: 'histogram',
    labels: ['method', 'route'],
    help: 'From the head of a request to the end of its answer. Routes that wait do so on purpose.'
  },
  failedLogins: counter(
    'hostlet_scheduler_failed_logins_total',
    ['reason'],
    'Requests without a right key (401) or with one of too low a tier (403) since the scheduler started.'
  ),
  authorityExpiry: gauge(
    'hostlet_scheduler_authority_expiry_timestamp_seconds',
    [],
    'When the certificate authority of the fleet expires, seconds since the epoch.'
  ),
  certificateExpiry: gauge(
    'hostlet_scheduler_certificate_expiry_timestamp_seconds',
    [],
    'When the certificate of the scheduler itself expires, seconds since the epoch.'
  ),
  storeBytes: gauge(
    'hostlet_scheduler_store_bytes',
    ['file'],
    'Size of each file of the store, without its write-ahead log.'
  ),
  auditFaults: gauge(
    'hostlet_scheduler_audit_chain_faults',
    [],
    'Hosts whose audit trail is not the one that it was.'
  ),
  readDuration: gauge(
    'hostlet_scheduler_metrics_read_seconds',
    [],
    'How long the fleet took to be read out of the store for this answer, other requests in between.'
  )
} as const satisfies Readonly<Record<string, MetricFamily>>

function gauge(name: string, labels: readonly string[], help: string): MetricFamily {
  return { name, type: 'gauge', labels, help }
}

function counter(name: string, labels: readonly string[], help: string): MetricFamily {
  return { name, type: 'counter', labels, help }
}
