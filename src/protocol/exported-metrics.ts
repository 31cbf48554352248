// The metrics that agents and the scheduler export under the same names: what each is, and which field of a sample it shows.

import type { HostSample, VmSample } from './metrics.ts'

/** Names by the conventions of Prometheus: base units at the end, and `_total` for what only grows. */
export interface ExportedMetric {
  readonly name: string
  readonly type: 'counter' | 'gauge' | 'histogram'
  readonly labels: readonly string[]
  readonly help: string
}

/** One field of a sample as a metric. */
export interface SampleMetric<Sample> extends ExportedMetric {
  readonly field: keyof Sample
}

/** The id of the host, the same at the agent as at the scheduler: what is asked of one can be asked of the other. */
const ofHost = ['host'] as const
const ofVm = ['host', 'vm', 'uuid'] as const
const ofBackup = [...ofVm, 'target'] as const

const hostGauge = field<HostSample>('gauge', ofHost)
const hostCounter = field<HostSample>('counter', ofHost)
const vmGauge = field<VmSample>('gauge', ofVm)
const vmCounter = field<VmSample>('counter', ofVm)

export const hostSampleMetrics: readonly SampleMetric<HostSample>[] = [
  hostGauge(
    'cpuUsedRatio',
    'hostlet_host_cpu_used_ratio',
    'Share of all CPUs in use over the last interval, 0 to 1.'
  ),
  hostGauge(
    'cpuStealRatio',
    'hostlet_host_cpu_steal_ratio',
    'Share of all CPUs that a hypervisor below took, 0 to 1.'
  ),
  hostCounter(
    'cpuSecondsTotal',
    'hostlet_host_cpu_seconds_total',
    'CPU time of all CPUs since boot that was neither idle nor stolen.'
  ),
  hostGauge('loadAverage1m', 'hostlet_host_load_average_1m', 'Load average of the last minute.'),
  hostGauge('memoryTotalBytes', 'hostlet_host_memory_size_bytes', 'Memory of the host.'),
  hostGauge(
    'memoryAvailableBytes',
    'hostlet_host_memory_available_bytes',
    'Memory that can be had without swapping.'
  ),
  hostGauge('swapUsedBytes', 'hostlet_host_swap_used_bytes', 'Swap in use.'),
  hostGauge(
    'cpuPressureRatio',
    'hostlet_host_cpu_pressure_ratio',
    'Share of the last 10 s that some task waited for CPU.'
  ),
  hostGauge(
    'memoryPressureRatio',
    'hostlet_host_memory_pressure_ratio',
    'Share of the last 10 s that some task waited for memory.'
  ),
  hostGauge(
    'ioPressureRatio',
    'hostlet_host_io_pressure_ratio',
    'Share of the last 10 s that some task waited for disks.'
  ),
  hostGauge(
    'poolCapacityBytes',
    'hostlet_host_pool_capacity_bytes',
    'Size of the file system below the pool of disks.'
  ),
  hostGauge('poolAvailableBytes', 'hostlet_host_pool_available_bytes', 'What is free there.'),
  hostCounter(
    'diskReadBytesTotal',
    'hostlet_host_disk_read_bytes_total',
    'Read from the disks of the host since boot.'
  ),
  hostCounter(
    'diskWriteBytesTotal',
    'hostlet_host_disk_written_bytes_total',
    'Written to the disks of the host since boot.'
  ),
  hostCounter(
    'receiveBytesTotal',
    'hostlet_host_network_receive_bytes_total',
    'Received by the network cards of the host since boot.'
  ),
  hostCounter(
    'transmitBytesTotal',
    'hostlet_host_network_transmit_bytes_total',
    'Sent by the network cards of the host since boot.'
  ),
  hostGauge('uptimeSeconds', 'hostlet_host_uptime_seconds', 'Time since the host booted.')
]

/** All counters of a VM begin anew with its QEMU. */
export const vmSampleMetrics: readonly SampleMetric<VmSample>[] = [
  vmCounter('cpuSecondsTotal', 'hostlet_vm_cpu_seconds_total', 'CPU time since the VM started.'),
  vmGauge('memoryMaximumBytes', 'hostlet_vm_memory_size_bytes', 'Memory that the VM may have.'),
  vmGauge(
    'memoryResidentBytes',
    'hostlet_vm_memory_resident_bytes',
    "Memory of the host that the VM's process holds."
  ),
  vmGauge(
    'memoryAvailableBytes',
    'hostlet_vm_memory_available_bytes',
    'Memory that the balloon of the guest says is free; absent without one.'
  ),
  vmGauge(
    'diskCapacityBytes',
    'hostlet_vm_disk_capacity_bytes',
    'Size of the disks of the VM, as it sees them.'
  ),
  vmGauge(
    'diskAllocationBytes',
    'hostlet_vm_disk_allocation_bytes',
    'What the disks of the VM take in the pool.'
  ),
  vmCounter(
    'diskReadBytesTotal',
    'hostlet_vm_disk_read_bytes_total',
    'Read from the disks since the VM started.'
  ),
  vmCounter(
    'diskWriteBytesTotal',
    'hostlet_vm_disk_written_bytes_total',
    'Written to the disks since the VM started.'
  ),
  vmCounter('diskReadsTotal', 'hostlet_vm_disk_reads_total', 'Read operations since the VM started.'),
  vmCounter('diskWritesTotal', 'hostlet_vm_disk_writes_total', 'Write operations since the VM started.'),
  vmCounter(
    'receiveBytesTotal',
    'hostlet_vm_network_receive_bytes_total',
    'Received by the VM since it started.'
  ),
  vmCounter(
    'transmitBytesTotal',
    'hostlet_vm_network_transmit_bytes_total',
    'Sent by the VM since it started.'
  ),
  vmCounter(
    'receivePacketsTotal',
    'hostlet_vm_network_receive_packets_total',
    'Packets received since the VM started.'
  ),
  vmCounter(
    'transmitPacketsTotal',
    'hostlet_vm_network_transmit_packets_total',
    'Packets sent since the VM started.'
  ),
  vmCounter(
    'receiveDropsTotal',
    'hostlet_vm_network_receive_drops_total',
    'Packets to the VM that were dropped since it started.'
  ),
  vmCounter(
    'transmitDropsTotal',
    'hostlet_vm_network_transmit_drops_total',
    'Packets from the VM that were dropped since it started.'
  )
]

export const hostMetrics = {
  info: gauge(
    'hostlet_host_info',
    [...ofHost, 'hostname', 'version'],
    'Always 1: the name of the host and the version of its agent.'
  ),
  certificateExpiry: gauge(
    'hostlet_host_certificate_expiry_timestamp_seconds',
    ofHost,
    'When the certificate of the host expires, seconds since the epoch. It is renewed with 10 to 30 percent of its life left.'
  ),
  condition: gauge(
    'hostlet_host_condition',
    [...ofHost, 'condition', 'severity'],
    'Always 1: a condition that holds now. Severities: info, warning, critical.'
  ),
  libvirtConnected: gauge(
    'hostlet_host_libvirt_connected',
    ofHost,
    '1 while the agent reaches its libvirt, 0 while not.'
  ),
  operationsRunning: gauge('hostlet_host_operations_running', ofHost, 'Operations that run on the host.'),
  operationsWaiting: gauge(
    'hostlet_host_operations_waiting',
    ofHost,
    'Operations that the host has taken and not begun.'
  ),
  draining: gauge('hostlet_host_draining', ofHost, '1 while the host takes no new work, 0 while it does.')
} as const satisfies Readonly<Record<string, ExportedMetric>>

export const vmMetrics = {
  state: gauge(
    'hostlet_vm_state',
    [...ofVm, 'state'],
    'Always 1: the state of the VM. States: running, paused, stopping, stopped, crashed, suspended, unknown.'
  ),
  info: gauge('hostlet_vm_info', [...ofVm, 'profile'], 'Always 1: the isolation profile of the VM.'),
  cpus: gauge('hostlet_vm_cpus', ofVm, 'Virtual CPUs of the VM.'),
  wantedRunning: gauge(
    'hostlet_vm_wanted_running',
    ofVm,
    '1 where the VM is to run, 0 where it is to be off.'
  ),
  probeHealthy: gauge(
    'hostlet_vm_probe_healthy',
    [...ofVm, 'probe'],
    '1 while a health probe of the VM succeeds, 0 while it fails; absent while nobody knows.'
  ),
  driftItems: gauge('hostlet_vm_drift_items', ofVm, 'Ways in which the VM is not as its records say.')
} as const satisfies Readonly<Record<string, ExportedMetric>>

export const backupMetrics = {
  lastSuccess: gauge(
    'hostlet_backup_last_success_timestamp_seconds',
    ofBackup,
    'The instant whose content the newest good backup holds, seconds since the epoch.'
  ),
  duration: gauge('hostlet_backup_last_duration_seconds', ofBackup, 'How long the newest good backup took.'),
  readBytes: gauge(
    'hostlet_backup_last_read_bytes',
    ofBackup,
    'What the newest good backup read from the disks.'
  ),
  storedBytes: gauge(
    'hostlet_backup_last_stored_bytes',
    ofBackup,
    'What the newest good backup added to the repository, compressed and encrypted.'
  ),
  overdue: gauge(
    'hostlet_backup_overdue_seconds',
    ofBackup,
    'For how long the newest good backup has been older than the schedule of the VM and its grace allow; 0 while it is not.'
  )
} as const satisfies Readonly<Record<string, ExportedMetric>>

function gauge(name: string, labels: readonly string[], help: string): ExportedMetric {
  return { name, type: 'gauge', labels, help }
}

function field<Sample>(type: 'counter' | 'gauge', labels: readonly string[]) {
  return (from: keyof Sample, name: string, help: string): SampleMetric<Sample> => ({
    field: from,
    name,
    type,
    labels,
    help
  })
}
