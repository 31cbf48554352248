// Names the numbers of block jobs, checkpoints, snapshots, backups and jobs (libvirt-domain*.h).

export const blockJobType = { unknown: 0, pull: 1, copy: 2, commit: 3, activeCommit: 4, backup: 5 } as const
export const blockJobAbortFlag = { async: 1, pivot: 2 } as const
/** With it a bandwidth is in bytes/s, else in MiB/s. */
export const blockJobInfoFlag = { bandwidthBytes: 1 } as const
export const blockJobSpeedFlag = { bandwidthBytes: 1 } as const
export const blockPullFlag = { bandwidthBytes: 64 } as const
export const blockCommitFlag = { shallow: 1, delete: 2, active: 4, relative: 8, bandwidthBytes: 16 } as const
export const blockCopyFlag = { shallow: 1, reuseExternal: 2, transientJob: 4, synchronousWrites: 8 } as const
/** Capacity (since libvirt 10.0) takes the size of the block device below. */
export const blockResizeFlag = { bytes: 1, capacity: 2 } as const

export const checkpointCreateFlag = { redefine: 1, quiesce: 2, redefineValidate: 4 } as const
export const checkpointDeleteFlag = { children: 1, metadataOnly: 2, childrenOnly: 4 } as const
/** `roots` when listing a domain's, `descendants` (the same bit) when listing a checkpoint's. */
export const checkpointListFlag = {
  roots: 1,
  descendants: 1,
  topological: 2,
  leaves: 4,
  noLeaves: 8
} as const
export const checkpointXmlFlag = { secure: 1, noDomain: 2, size: 4 } as const

export const snapshotDeleteFlag = { children: 1, metadataOnly: 2, childrenOnly: 4 } as const
/** `roots` when listing a domain's, `descendants` (the same bit) when listing a snapshot's. */
export const snapshotListFlag = {
  roots: 1,
  descendants: 1,
  metadata: 2,
  leaves: 4,
  noLeaves: 8,
  noMetadata: 16,
  inactive: 32,
  active: 64,
  diskOnly: 128,
  internal: 256,
  external: 512,
  topological: 1024
} as const

/** Reuse: the scratch files (pull) or targets (push) exist already, made by us. */
export const backupBeginFlag = { reuseExternal: 1 } as const

export const jobType = { none: 0, bounded: 1, unbounded: 2, completed: 3, failed: 4, cancelled: 5 } as const
export const jobOperation = {
  unknown: 0,
  start: 1,
  save: 2,
  restore: 3,
  migrationIn: 4,
  migrationOut: 5,
  snapshot: 6,
  snapshotRevert: 7,
  dump: 8,
  backup: 9,
  snapshotDelete: 10
} as const
export const jobStatisticsFlag = { completed: 1, keepCompleted: 2 } as const
export const abortJobFlag = { postcopy: 1 } as const

/** Names of typed parameters in a job's statistics: those that a backup fills in. */
export const jobParameter = {
  operation: 'operation',
  timeElapsedMs: 'time_elapsed',
  timeRemainingMs: 'time_remaining',
  diskTotalBytes: 'disk_total',
  diskProcessedBytes: 'disk_processed',
  diskRemainingBytes: 'disk_remaining',
  diskTemporaryUsedBytes: 'disk_temp_used',
  diskTemporaryTotalBytes: 'disk_temp_total',
  success: 'success',
  errorMessage: 'errmsg'
} as const
