// Names the numbers of the connection and of the host (libvirt-host.h, remote_driver.h).

export const connectFlag = { readOnly: 1 } as const

/** remote_auth_type. */
export const authType = { none: 0, sasl: 1, polkit: 2 } as const

/** Features that a client may ask for (libvirt src/libvirt_internal.h, VIR_DRV_FEATURE_*). */
export const connectFeature = {
  typedParameterString: 9,
  keepalive: 10,
  domainEventCallback: 14,
  closeCallback: 15,
  networkUpdateOrder: 16
} as const

export const connectCloseReason = { error: 0, endOfFile: 1, keepalive: 2, client: 3 } as const

export const cpuCompareResult = { error: -1, incompatible: 0, identical: 1, superset: 2 } as const
export const compareCpuFlag = { failIncompatible: 1, validateXml: 2 } as const
export const baselineCpuFlag = { expandFeatures: 1, migratable: 2 } as const

/** VIR_NODE_CPU_STATS_ALL_CPUS and VIR_NODE_MEMORY_STATS_ALL_CELLS. */
export const nodeAll = -1
export const nodeCpuStatistic = {
  kernel: 'kernel',
  user: 'user',
  idle: 'idle',
  ioWait: 'iowait',
  interrupts: 'intr',
  utilization: 'utilization'
} as const
export const nodeMemoryStatistic = {
  total: 'total',
  free: 'free',
  buffers: 'buffers',
  cached: 'cached'
} as const

/** virConnectListAllNodeDeviceFlags, the kinds that a host has. */
export const nodeDeviceListFlag = {
  system: 1,
  pci: 2,
  usb: 4,
  usbInterface: 8,
  net: 16,
  scsiHost: 32,
  scsiTarget: 64,
  scsi: 128,
  storage: 256,
  persistent: 0x1000_0000,
  transient: 0x2000_0000,
  inactive: 0x4000_0000,
  active: 0x8000_0000
} as const
export const interfaceListFlag = { inactive: 1, active: 2 } as const
