// Declares the procedures of storage pools and volumes.

import { array, bool, char, int, nothing, struct, uchar, uhyper, uint } from '../xdr/schema.ts'
import { STORAGE_POOLS_MAX, STORAGE_VOLUMES_MAX } from './limits.ts'
import {
  high,
  optionalText,
  storagePool as pool,
  text,
  uuid,
  storageVolume as volume,
  xmlResult
} from './objects.ts'
import { procedure } from './procedure.ts'

const poolOnly = struct({ pool })
const poolFlags = struct({ pool, flags: uint })
const volumeOnly = struct({ volume })
const volumeFlags = struct({ volume, flags: uint })
const transfer = struct({ volume, offsetBytes: uhyper, lengthBytes: uhyper, flags: uint })

// Pools.
/** `flags`: `poolDefineFlag`. */
export const storagePoolDefineXml = procedure(77, struct({ xml: text, flags: uint }), poolOnly, high)
/** A transient pool. `flags`: `poolCreateFlag`. */
export const storagePoolCreateXml = procedure(76, struct({ xml: text, flags: uint }), poolOnly)
/** Makes what the pool lives in: for a directory pool the directory. `flags`: `poolBuildFlag`. */
export const storagePoolBuild = procedure(79, poolFlags, nothing)
/** Starts a defined pool. `flags`: `poolCreateFlag`. */
export const storagePoolCreate = procedure(78, poolFlags, nothing)
/** Stops the pool; its volumes stay. */
export const storagePoolDestroy = procedure(80, poolOnly, nothing, high)
/** Removes what the pool lives in: for a directory pool the directory, which must be empty. */
export const storagePoolDelete = procedure(81, poolFlags, nothing)
export const storagePoolUndefine = procedure(82, poolOnly, nothing, high)
/** Reads the pool's content anew: volumes that others wrote there appear. */
export const storagePoolRefresh = procedure(83, poolFlags, nothing)
export const storagePoolLookupByName = procedure(84, struct({ name: text }), poolOnly, high)
export const storagePoolLookupByUuid = procedure(85, struct({ uuid }), poolOnly, high)
export const storagePoolLookupByVolume = procedure(86, volumeOnly, poolOnly, high)
export const storagePoolLookupByTargetPath = procedure(391, struct({ path: text }), poolOnly, high)
/** `state` is one of `poolState`. */
export const storagePoolGetInfo = procedure(
  87,
  poolOnly,
  struct({ state: uchar, capacityBytes: uhyper, allocationBytes: uhyper, availableBytes: uhyper }),
  high
)
export const storagePoolGetXmlDesc = procedure(88, poolFlags, xmlResult, high)
export const storagePoolGetAutostart = procedure(89, poolOnly, struct({ autostart: bool }), high)
export const storagePoolSetAutostart = procedure(90, struct({ pool, autostart: bool }), nothing, high)
export const storagePoolIsActive = procedure(154, poolOnly, struct({ active: bool }), high)
export const storagePoolIsPersistent = procedure(155, poolOnly, struct({ persistent: bool }), high)
/** `flags`: `poolListFlag`, a filter; 0 lists all. */
export const connectListAllStoragePools = procedure(
  281,
  struct({ needResults: bool, flags: uint }),
  struct({ pools: array(pool, STORAGE_POOLS_MAX), count: uint }),
  high
)
export const connectNumOfStoragePools = procedure(71, nothing, struct({ count: int }), high)
export const connectNumOfDefinedStoragePools = procedure(73, nothing, struct({ count: int }), high)
export const connectGetStoragePoolCapabilities = procedure(
  403,
  struct({ flags: uint }),
  struct({ capabilities: text })
)
/** `sourceXml` narrows the search, where the type of pool needs it. */
export const connectFindStoragePoolSources = procedure(
  75,
  struct({ type: text, sourceXml: optionalText, flags: uint }),
  xmlResult
)

// Volumes.
export const storagePoolNumOfVolumes = procedure(91, poolOnly, struct({ count: int }), high)
export const storagePoolListVolumes = procedure(
  92,
  struct({ pool, namesMax: int }),
  struct({ names: array(text, STORAGE_VOLUMES_MAX) }),
  high
)
export const storagePoolListAllVolumes = procedure(
  282,
  struct({ pool, needResults: bool, flags: uint }),
  struct({ volumes: array(volume, STORAGE_VOLUMES_MAX), count: uint }),
  high
)
export const storageVolLookupByName = procedure(95, struct({ pool, name: text }), volumeOnly, high)
export const storageVolLookupByKey = procedure(96, struct({ key: text }), volumeOnly, high)
export const storageVolLookupByPath = procedure(97, struct({ path: text }), volumeOnly, high)
/**
 * `flags`: `volumeCreateFlag`. A qcow2 volume is of compat 0.10 by default, which holds no bitmaps: ask for
 * `<compat>1.1</compat>`.
 */
export const storageVolCreateXml = procedure(93, struct({ pool, xml: text, flags: uint }), volumeOnly)
/** Copies `source` into a new volume, converting the format. A qcow2 copy has the source's capacity. */
export const storageVolCreateXmlFrom = procedure(
  125,
  struct({ pool, xml: text, source: volume, flags: uint }),
  volumeOnly
)
/** `flags`: `volumeDeleteFlag`. */
export const storageVolDelete = procedure(94, volumeFlags, nothing)
export const storageVolWipe = procedure(165, volumeFlags, nothing)
/** `algorithm` is one of `volumeWipeAlgorithm`. */
export const storageVolWipePattern = procedure(259, struct({ volume, algorithm: uint, flags: uint }), nothing)
/** `flags`: `volumeResizeFlag`. */
export const storageVolResize = procedure(
  260,
  struct({ volume, capacityBytes: uhyper, flags: uint }),
  nothing
)
/** `type` is one of `volumeType`. */
export const storageVolGetInfo = procedure(
  98,
  volumeOnly,
  struct({ type: char, capacityBytes: uhyper, allocationBytes: uhyper }),
  high
)
/** As `storageVolGetInfo`; with `volumeInfoFlag.physical` the file's length stands in `allocationBytes`. */
export const storageVolGetInfoFlags = procedure(
  378,
  volumeFlags,
  struct({ type: char, capacityBytes: uhyper, allocationBytes: uhyper }),
  high
)
export const storageVolGetXmlDesc = procedure(99, volumeFlags, xmlResult, high)
export const storageVolGetPath = procedure(100, volumeOnly, struct({ path: text }), high)
/**
 * The volume's bytes follow as a stream. Length 0 has no end: it may grow a raw volume past its capacity.
 * Holes only with `volumeTransferFlag.sparse`.
 */
export const storageVolUpload = procedure(208, transfer, nothing, { stream: 'write' })
/** Length 0 reads to the end. */
export const storageVolDownload = procedure(209, transfer, nothing, { stream: 'read' })
