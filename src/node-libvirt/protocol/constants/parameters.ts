// Names libvirt's typed parameters (libvirt-domain.h, libvirt-host.h), the flag for reading them, and
// statistics groups.

/** VIR_TYPED_PARAM_STRING_OKAY: without it parameters of type string are left out. */
export const typedParameterFlag = { stringOkay: 4 } as const

/** virDomainStatsTypes. The test driver has `state` only. */
export const statisticsGroup = {
  state: 1,
  cpu: 2,
  balloon: 4,
  vcpu: 8,
  interface: 16,
  block: 32,
  perf: 64,
  ioThread: 128,
  memory: 256,
  dirtyRate: 512,
  vm: 1024
} as const

/** virConnectGetAllDomainStatsFlags: the first eight filter as `domainListFlag` does. */
export const statisticsFlag = {
  active: 1,
  inactive: 2,
  persistent: 4,
  transient: 8,
  running: 16,
  paused: 32,
  shutOff: 64,
  other: 128,
  /** Do not wait for a busy or frozen QEMU: answer with what is known without it. */
  noWait: 0x2000_0000,
  /** Block statistics of the whole backing chain. */
  backing: 0x4000_0000,
  /** An error where the driver lacks a group, which is otherwise left out. */
  enforce: 0x8000_0000
} as const

export const schedulerParameter = {
  cpuShares: 'cpu_shares',
  globalPeriodUs: 'global_period',
  globalQuotaUs: 'global_quota',
  vcpuPeriodUs: 'vcpu_period',
  vcpuQuotaUs: 'vcpu_quota',
  emulatorPeriodUs: 'emulator_period',
  emulatorQuotaUs: 'emulator_quota',
  ioThreadPeriodUs: 'iothread_period',
  ioThreadQuotaUs: 'iothread_quota'
} as const

export const memoryParameter = {
  hardLimitKib: 'hard_limit',
  softLimitKib: 'soft_limit',
  swapHardLimitKib: 'swap_hard_limit'
} as const

export const numaParameter = { nodeset: 'numa_nodeset', mode: 'numa_mode' } as const
export const numaMode = { strict: 0, preferred: 1, interleave: 2, restrictive: 3 } as const

export const blkioParameter = {
  weight: 'weight',
  deviceWeight: 'device_weight',
  deviceReadIops: 'device_read_iops_sec',
  deviceWriteIops: 'device_write_iops_sec',
  deviceReadBytesPerSecond: 'device_read_bytes_sec',
  deviceWriteBytesPerSecond: 'device_write_bytes_sec'
} as const

/**
 * A total excludes its read and write limits. `…Max` are bursts, `…MaxLengthSeconds` how long they may
 * last.
 */
export const blockIoTuneParameter = {
  totalBytesPerSecond: 'total_bytes_sec',
  readBytesPerSecond: 'read_bytes_sec',
  writeBytesPerSecond: 'write_bytes_sec',
  totalIops: 'total_iops_sec',
  readIops: 'read_iops_sec',
  writeIops: 'write_iops_sec',
  totalBytesPerSecondMax: 'total_bytes_sec_max',
  readBytesPerSecondMax: 'read_bytes_sec_max',
  writeBytesPerSecondMax: 'write_bytes_sec_max',
  totalIopsMax: 'total_iops_sec_max',
  readIopsMax: 'read_iops_sec_max',
  writeIopsMax: 'write_iops_sec_max',
  totalBytesMaxLengthSeconds: 'total_bytes_sec_max_length',
  readBytesMaxLengthSeconds: 'read_bytes_sec_max_length',
  writeBytesMaxLengthSeconds: 'write_bytes_sec_max_length',
  totalIopsMaxLengthSeconds: 'total_iops_sec_max_length',
  readIopsMaxLengthSeconds: 'read_iops_sec_max_length',
  writeIopsMaxLengthSeconds: 'write_iops_sec_max_length',
  sizeOfIoBytes: 'size_iops_sec',
  groupName: 'group_name'
} as const

export const blockCopyParameter = {
  bandwidthBytesPerSecond: 'bandwidth',
  granularityBytes: 'granularity',
  bufferBytes: 'buf-size'
} as const

/** Averages and peaks in KiB/s, bursts in KiB. In is towards the guest. */
export const bandwidthParameter = {
  inboundAverage: 'inbound.average',
  inboundPeak: 'inbound.peak',
  inboundBurst: 'inbound.burst',
  inboundFloor: 'inbound.floor',
  outboundAverage: 'outbound.average',
  outboundPeak: 'outbound.peak',
  outboundBurst: 'outbound.burst'
} as const

export const blockStatisticsParameter = {
  readBytes: 'rd_bytes',
  readRequests: 'rd_operations',
  readTimeNs: 'rd_total_times',
  writeBytes: 'wr_bytes',
  writeRequests: 'wr_operations',
  writeTimeNs: 'wr_total_times',
  flushRequests: 'flush_operations',
  flushTimeNs: 'flush_total_times',
  errors: 'errs'
} as const

/**
 * virDomainMemoryStatTags: KiB but for faults and huge pages (counts) and `lastUpdate` (seconds since
 * 1970).
 */
export const memoryStatisticsTag = {
  swapIn: 0,
  swapOut: 1,
  majorFaults: 2,
  minorFaults: 3,
  unused: 4,
  available: 5,
  balloon: 6,
  rss: 7,
  usable: 8,
  lastUpdate: 9,
  diskCaches: 10,
  hugePagesAllocated: 11,
  hugePagesFailed: 12
} as const
