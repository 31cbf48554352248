// Writes monitoring/grafana/hostlet.json, the dashboard of a fleet, from a table of panels. Run: node scripts/generate-dashboard.ts

import { writeFileSync } from 'node:fs'
import { join } from 'node:path'

export const dashboardPath = join(import.meta.dirname, '..', 'monitoring', 'grafana', 'hostlet.json')

type Query = readonly [expression: string, legend: string]

interface Panel {
  readonly title: string
  readonly about: string
  readonly type: 'stat' | 'timeseries' | 'table'
  readonly unit: 'none' | 'percentunit' | 'bytes' | 'Bps' | 'ops' | 'pps' | 's' | 'dateTimeFromNow'
  readonly queries: readonly Query[]
  /** Of 24. */
  readonly width: number
  /** A value from here on is shown in red, where more is worse. */
  readonly redFrom?: number
}

interface Row {
  readonly title: string
  readonly panels: readonly Panel[]
}

const host = 'host=~"$host"'
const vm = 'host=~"$host", vm=~"$vm"'

export const rows: readonly Row[] = [
  {
    title: 'Fleet',
    panels: [
      stat('Hosts connected', 'Of all that are enrolled and not revoked.', 'sum(hostlet_host_up)'),
      stat('Hosts away', 'Enrolled and not connected now.', 'count(hostlet_host_up == 0) or vector(0)', 1),
      stat('VMs running', 'On hosts that are connected.', 'sum(hostlet_scheduler_vms{state="running"})'),
      stat(
        'VMs off that should run',
        'Nobody stopped them by a command.',
        'count(hostlet_vm_wanted_running == 1 and on (host, vm, uuid) hostlet_vm_state{state=~"stopped|crashed"} == 1) or vector(0)',
        1
      ),
      stat(
        'Backups overdue',
        'Older than their schedules and grace allow.',
        'count(hostlet_backup_overdue_seconds > 0) or vector(0)',
        1
      ),
      stat(
        'Critical conditions',
        'See "hostlet host show".',
        'count(hostlet_host_condition{severity="critical"}) or vector(0)',
        1
      ),
      table(
        'Conditions',
        'What holds now. "hostlet host show HOST" says why, and what to do.',
        'hostlet_host_condition'
      ),
      series('Operations ended', 'A minute, by outcome.', 'none', [
        [
          '60 * sum by (outcome) (rate(hostlet_scheduler_operations_ended_total[$__rate_interval]))',
          '{{outcome}}'
        ]
      ]),
      series('Operations open', 'By state.', 'none', [
        ['sum by (state) (hostlet_scheduler_operations_open)', '{{state}}']
      ]),
      series('Operation time', 'That half and 19 of 20 stay below, from the request on.', 's', [
        [
          'histogram_quantile(0.5, sum by (le) (rate(hostlet_scheduler_operation_duration_seconds_bucket[$__rate_interval])))',
          'half'
        ],
        [
          'histogram_quantile(0.95, sum by (le) (rate(hostlet_scheduler_operation_duration_seconds_bucket[$__rate_interval])))',
          '95 %'
        ]
      ])
    ]
  },
  {
    title: 'Hosts',
    panels: [
      series('CPU', 'Share of all CPUs in use.', 'percentunit', [
        [`hostlet_host_cpu_used_ratio{${host}}`, '{{host}}']
      ]),
      series('Memory available', 'Share of the memory that can be had without swapping.', 'percentunit', [
        [`host:hostlet_host_memory_available:ratio{${host}}`, '{{host}}']
      ]),
      series('Pool free', 'Share of the file system below the pool of disks.', 'percentunit', [
        [`host:hostlet_host_pool_available:ratio{${host}}`, '{{host}}']
      ]),
      series('Pressure', 'Share of the time that tasks waited.', 'percentunit', [
        [`hostlet_host_cpu_pressure_ratio{${host}}`, '{{host}} CPU'],
        [`hostlet_host_memory_pressure_ratio{${host}}`, '{{host}} memory'],
        [`hostlet_host_io_pressure_ratio{${host}}`, '{{host}} disks']
      ]),
      series('Network', 'Of the network cards of the hosts; sent is below zero.', 'Bps', [
        [`rate(hostlet_host_network_receive_bytes_total{${host}}[$__rate_interval])`, '{{host}} received'],
        [`-rate(hostlet_host_network_transmit_bytes_total{${host}}[$__rate_interval])`, '{{host}} sent']
      ]),
      series('Disks', 'Of the hosts; written is below zero.', 'Bps', [
        [`rate(hostlet_host_disk_read_bytes_total{${host}}[$__rate_interval])`, '{{host}} read'],
        [`-rate(hostlet_host_disk_written_bytes_total{${host}}[$__rate_interval])`, '{{host}} written']
      ]),
      series('Connections', 'New ones in half an hour: an agent that flaps has many.', 'none', [
        [`changes(hostlet_host_connected_timestamp_seconds{${host}}[30m])`, '{{host}}']
      ]),
      series('Certificates', 'Time that is left of them.', 's', [
        [`hostlet_host_certificate_expiry_timestamp_seconds{${host}} - time()`, '{{host}}']
      ])
    ]
  },
  {
    title: 'VMs',
    panels: [
      series('CPU', 'Share of the vCPUs in use.', 'percentunit', [
        [`host_vm:hostlet_vm_cpu_used:ratio_rate5m{${vm}}`, '{{vm}}']
      ]),
      series('Memory', "What the VM's process holds of the host's memory.", 'bytes', [
        [`hostlet_vm_memory_resident_bytes{${vm}}`, '{{vm}}']
      ]),
      series('Disk use', 'What the disks take in the pool.', 'bytes', [
        [`hostlet_vm_disk_allocation_bytes{${vm}}`, '{{vm}}']
      ]),
      series('Disk bytes', 'Written is below zero.', 'Bps', [
        [`rate(hostlet_vm_disk_read_bytes_total{${vm}}[$__rate_interval])`, '{{vm}} read'],
        [`-rate(hostlet_vm_disk_written_bytes_total{${vm}}[$__rate_interval])`, '{{vm}} written']
      ]),
      series('Disk operations', 'Writes are below zero.', 'ops', [
        [`rate(hostlet_vm_disk_reads_total{${vm}}[$__rate_interval])`, '{{vm}} reads'],
        [`-rate(hostlet_vm_disk_writes_total{${vm}}[$__rate_interval])`, '{{vm}} writes']
      ]),
      series('Network bytes', 'Sent is below zero.', 'Bps', [
        [`rate(hostlet_vm_network_receive_bytes_total{${vm}}[$__rate_interval])`, '{{vm}} received'],
        [`-rate(hostlet_vm_network_transmit_bytes_total{${vm}}[$__rate_interval])`, '{{vm}} sent']
      ]),
      series('Packets and drops', 'Drops are below zero.', 'pps', [
        [
          `rate(hostlet_vm_network_receive_packets_total{${vm}}[$__rate_interval]) + rate(hostlet_vm_network_transmit_packets_total{${vm}}[$__rate_interval])`,
          '{{vm}}'
        ],
        [
          `-(rate(hostlet_vm_network_receive_drops_total{${vm}}[$__rate_interval]) + rate(hostlet_vm_network_transmit_drops_total{${vm}}[$__rate_interval]))`,
          '{{vm}} dropped'
        ]
      ]),
      series('Health probes', '1 while they succeed.', 'none', [
        [`hostlet_vm_probe_healthy{${vm}}`, '{{vm}} {{probe}}']
      ]),
      series('Age of backups', 'Of the newest good one in each repository.', 's', [
        [`time() - hostlet_backup_last_success_timestamp_seconds{${vm}}`, '{{vm}} {{target}}']
      ]),
      series('Backups overdue', 'Beyond what schedule and grace allow.', 's', [
        [`hostlet_backup_overdue_seconds{${vm}}`, '{{vm}} {{target}}']
      ])
    ]
  },
  {
    title: 'Scheduler',
    panels: [
      series('API requests', 'By status.', 'ops', [
        ['sum by (status) (rate(hostlet_scheduler_api_requests_total[$__rate_interval]))', '{{status}}']
      ]),
      series('API time', 'That 99 of 100 requests stay below, of the slowest routes.', 's', [
        ['topk(5, instance_route:hostlet_scheduler_api_request_duration_seconds:p99_rate5m)', '{{route}}']
      ]),
      series('Failed logins', 'In 5 minutes, by reason.', 'none', [
        ['sum by (reason) (increase(hostlet_scheduler_failed_logins_total[5m]))', '{{reason}}']
      ]),
      series('Event loop', 'Share of the time that it was busy.', 'percentunit', [
        [
          'rate(nodejs_eventloop_active_seconds_total{job="hostlet-scheduler"}[$__rate_interval])',
          '{{instance}}'
        ]
      ]),
      series('Memory', 'Of the process.', 'bytes', [
        ['process_resident_memory_bytes{job="hostlet-scheduler"}', '{{instance}}']
      ]),
      series('Store', 'Size of its files.', 'bytes', [['hostlet_scheduler_store_bytes', '{{file}}']])
    ]
  }
]

function stat(title: string, about: string, expression: string, redFrom?: number): Panel {
  const panel = { title, about, type: 'stat', unit: 'none', queries: [[expression, '']], width: 4 } as const
  return redFrom === undefined ? panel : { ...panel, redFrom }
}

function series(title: string, about: string, unit: Panel['unit'], queries: readonly Query[]): Panel {
  return { title, about, type: 'timeseries', unit, queries, width: 8 }
}

function table(title: string, about: string, expression: string): Panel {
  return { title, about, type: 'table', unit: 'none', queries: [[expression, '']], width: 24 }
}

const source = { type: 'prometheus', uid: '$datasource' } as const
const columns = 24
const heights = { stat: 4, timeseries: 8, table: 8 } as const

export function dashboard(): Record<string, unknown> {
  return {
    uid: 'hostlet-fleet',
    title: 'hostlet',
    description: 'A fleet of hypervisors: the scheduler, its hosts, their VMs.',
    tags: ['hostlet'],
    schemaVersion: 39,
    version: 1,
    editable: true,
    graphTooltip: 1,
    timezone: 'browser',
    refresh: '30s',
    time: { from: 'now-6h', to: 'now' },
    templating: { list: variables() },
    annotations: { list: [] },
    links: [],
    panels: placed()
  }
}

function variables(): Record<string, unknown>[] {
  const query = (name: string, text: string) => ({
    name,
    label: name,
    type: 'query',
    datasource: source,
    definition: text,
    query: { query: text, refId: name },
    refresh: 2,
    sort: 1,
    multi: true,
    includeAll: true,
    allValue: '.*',
    current: { selected: true, text: ['All'], value: ['$__all'] },
    options: [],
    hide: 0
  })
  return [
    {
      name: 'datasource',
      label: 'source',
      type: 'datasource',
      query: 'prometheus',
      hide: 0,
      current: {},
      options: []
    },
    query('host', 'label_values(hostlet_host_up, host)'),
    query('vm', 'label_values(hostlet_vm_cpus{host=~"$host"}, vm)')
  ]
}

/** From left to right, then the next line; a row's title takes a line of its own. */
function placed(): Record<string, unknown>[] {
  const made: Record<string, unknown>[] = []
  let top = 0
  for (const row of rows) {
    made.push({
      ...{ id: made.length + 1, type: 'row', title: row.title, collapsed: false, panels: [] },
      gridPos: { x: 0, y: top, w: columns, h: 1 }
    })
    top += 1
    let left = 0
    let lineHeight = 0
    for (const panel of row.panels) {
      if (left + panel.width > columns) {
        top += lineHeight
        left = 0
        lineHeight = 0
      }
      const height = heights[panel.type]
      made.push({
        id: made.length + 1,
        ...panelOf(panel),
        gridPos: { x: left, y: top, w: panel.width, h: height }
      })
      left += panel.width
      lineHeight = Math.max(lineHeight, height)
    }
    top += lineHeight
  }
  return made
}

function panelOf({ title, about, type, unit, queries, redFrom }: Panel): Record<string, unknown> {
  const steps = [
    { color: 'green', value: null },
    ...(redFrom === undefined ? [] : [{ color: 'red', value: redFrom }])
  ]
  return {
    type,
    title,
    description: about,
    datasource: source,
    targets: queries.map(([expr, legendFormat], index) => ({
      refId: String.fromCharCode(65 + index),
      datasource: source,
      expr,
      legendFormat,
      ...(type === 'table' ? { instant: true, format: 'table' } : { range: true })
    })),
    fieldConfig: { defaults: { unit, thresholds: { mode: 'absolute', steps } }, overrides: [] },
    options: optionsOf[type],
    ...(type === 'table' && { transformations: tableColumns })
  }
}

const optionsOf = {
  stat: {
    reduceOptions: { calcs: ['lastNotNull'], fields: '', values: false },
    colorMode: 'value',
    graphMode: 'none'
  },
  timeseries: {
    legend: { displayMode: 'list', placement: 'bottom', showLegend: true },
    tooltip: { mode: 'multi', sort: 'desc' }
  },
  table: { showHeader: true, sortBy: [{ displayName: 'severity', desc: false }] }
} as const

const tableColumns = [
  {
    id: 'organize',
    options: {
      excludeByName: { Time: true, Value: true, __name__: true, instance: true, job: true },
      indexByName: { severity: 0, host: 1, condition: 2 },
      renameByName: {}
    }
  }
] as const

if (import.meta.main) writeFileSync(dashboardPath, `${JSON.stringify(dashboard(), undefined, 2)}\n`)
