// Names the numbers of a domain's states, reasons and flags (libvirt-domain.h).

/** virDomainState. */
export const domainState = {
  none: 0,
  running: 1,
  blocked: 2,
  paused: 3,
  shuttingDown: 4,
  shutOff: 5,
  crashed: 6,
  pmSuspended: 7
} as const

export const domainRunningReason = {
  unknown: 0,
  booted: 1,
  migrated: 2,
  restored: 3,
  fromSnapshot: 4,
  unpaused: 5,
  migrationCanceled: 6,
  saveCanceled: 7,
  wakeup: 8,
  crashed: 9,
  postcopy: 10,
  postcopyFailed: 11
} as const

export const domainPausedReason = {
  unknown: 0,
  user: 1,
  migration: 2,
  save: 3,
  dump: 4,
  ioError: 5,
  watchdog: 6,
  fromSnapshot: 7,
  shuttingDown: 8,
  snapshot: 9,
  crashed: 10,
  startingUp: 11,
  postcopy: 12,
  postcopyFailed: 13,
  apiError: 14
} as const

export const domainShutdownReason = { unknown: 0, user: 1 } as const

export const domainShutOffReason = {
  unknown: 0,
  shutdown: 1,
  destroyed: 2,
  crashed: 3,
  migrated: 4,
  saved: 5,
  failed: 6,
  fromSnapshot: 7,
  daemon: 8
} as const

export const domainCrashedReason = { unknown: 0, panicked: 1 } as const

/** virDomainControlState: whether the domain's monitor answers. */
export const domainControlState = { ok: 0, job: 1, occupied: 2, error: 3 } as const
export const domainControlErrorReason = { none: 0, unknown: 1, monitor: 2, internal: 3 } as const

export const domainDefineFlag = { validate: 1 } as const

export const domainCreateFlag = {
  paused: 1,
  /** The guest dies with the connection that started it. */
  autodestroy: 2,
  bypassCache: 4,
  /** Drops a managed save instead of resuming from it. */
  forceBoot: 8,
  validate: 16,
  resetNvram: 32
} as const

export const domainUndefineFlag = {
  managedSave: 1,
  snapshotsMetadata: 2,
  nvram: 4,
  keepNvram: 8,
  /** Without it a domain that has checkpoints is not undefined. */
  checkpointsMetadata: 16,
  tpm: 32,
  keepTpm: 64
} as const

export const domainDestroyFlag = { graceful: 1, removeLogs: 2 } as const
/** 0 lets libvirt choose: the agent where it answers, then the ACPI button. */
export const domainShutdownFlag = {
  acpiPowerButton: 1,
  guestAgent: 2,
  initctl: 4,
  signal: 8,
  paravirt: 16
} as const
export const domainRebootFlag = {
  acpiPowerButton: 1,
  guestAgent: 2,
  initctl: 4,
  signal: 8,
  paravirt: 16
} as const

export const domainLifecycle = { powerOff: 0, reboot: 1, crash: 2 } as const
export const domainLifecycleAction = {
  destroy: 0,
  restart: 1,
  restartRename: 2,
  preserve: 3,
  coredumpDestroy: 4,
  coredumpRestart: 5
} as const

export const domainXmlFlag = {
  /** Includes passwords: needs a connection that may write. */
  secure: 1,
  /** What the next start will use, rather than what runs. */
  inactive: 2,
  updateCpu: 4,
  migratable: 8
} as const

/** virConnectListAllDomainsFlags: within a group any that is given will do, across groups all must hold. */
export const domainListFlag = {
  active: 1,
  inactive: 2,
  persistent: 4,
  transient: 8,
  running: 16,
  paused: 32,
  shutOff: 64,
  other: 128,
  managedSave: 256,
  noManagedSave: 512,
  autostart: 1024,
  noAutostart: 2048,
  hasSnapshot: 4096,
  noSnapshot: 8192,
  hasCheckpoint: 16_384,
  noCheckpoint: 32_768
} as const

/** virDomainModificationImpact: current means live for a running domain and config for one that is off. */
export const modificationImpact = { current: 0, live: 1, config: 2 } as const
export const deviceModifyFlag = { current: 0, live: 1, config: 2, force: 4 } as const
export const domainMemoryFlag = { current: 0, live: 1, config: 2, maximum: 4 } as const
export const domainVcpuFlag = {
  current: 0,
  live: 1,
  config: 2,
  maximum: 4,
  guest: 8,
  hotpluggable: 16
} as const

export const metadataType = { description: 0, title: 1, element: 2 } as const
export const domainHostnameSource = { lease: 1, agent: 2 } as const
export const domainTimeFlag = { sync: 1 } as const
export const domainDiskError = { none: 0, unspecified: 1, noSpace: 2 } as const
export const domainMessageType = { deprecation: 1, tainting: 2, ioErrors: 4 } as const
export const vcpuState = { offline: 0, running: 1, blocked: 2 } as const
export const vcpuHostCpu = { offline: -1, unavailable: -2 } as const

export const consoleFlag = { force: 1, safe: 2 } as const
export const channelFlag = { force: 1 } as const
