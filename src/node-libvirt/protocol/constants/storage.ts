// Names the numbers of storage pools and volumes (libvirt-storage.h).

export const poolState = { inactive: 0, building: 1, running: 2, degraded: 3, inaccessible: 4 } as const
export const poolDefineFlag = { validate: 1 } as const
export const poolCreateFlag = { build: 1, buildOverwrite: 2, buildNoOverwrite: 4 } as const
export const poolBuildFlag = { repair: 1, resize: 2, noOverwrite: 4, overwrite: 8 } as const
export const poolDeleteFlag = { zeroed: 1 } as const
export const storageXmlFlag = { inactive: 1 } as const

/** virConnectListAllStoragePoolsFlags, states and the kinds of pool that a host may have. */
export const poolListFlag = {
  inactive: 1,
  active: 2,
  persistent: 4,
  transient: 8,
  autostart: 16,
  noAutostart: 32,
  directory: 64,
  fileSystem: 128,
  networkFileSystem: 256,
  logical: 512,
  disk: 1024,
  iscsi: 2048,
  scsi: 4096,
  multipath: 8192,
  rbd: 16_384,
  gluster: 65_536,
  zfs: 131_072
} as const

/** virStoragePoolEventLifecycleType. Created and deleted are about what the pool lives in. */
export const poolEventType = {
  defined: 0,
  undefined: 1,
  started: 2,
  stopped: 3,
  created: 4,
  deleted: 5
} as const

export const volumeType = {
  file: 0,
  block: 1,
  directory: 2,
  network: 3,
  networkDirectory: 4,
  ploop: 5
} as const
/** Validate since libvirt 8.10. */
export const volumeCreateFlag = { preallocateMetadata: 1, reflink: 2, validate: 4 } as const
export const volumeDeleteFlag = { zeroed: 1, withSnapshots: 2 } as const
export const volumeInfoFlag = { physical: 1 } as const
/** Without shrink a smaller capacity is refused; delta adds to the present one. */
export const volumeResizeFlag = { allocate: 1, delta: 2, shrink: 4 } as const
export const volumeTransferFlag = { sparse: 1 } as const
/** All but zero, random (by `scrub`) and trim are patterns of several passes. */
export const volumeWipeAlgorithm = {
  zero: 0,
  nnsa: 1,
  dod: 2,
  bsi: 3,
  gutmann: 4,
  schneier: 5,
  pfitzner7: 6,
  pfitzner33: 7,
  random: 8,
  trim: 9
} as const
