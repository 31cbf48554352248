// Declares the procedures that find foreign snapshots of a domain and drop their metadata. We make none.

import { array, bool, int, nothing, struct, uint } from '../xdr/schema.ts'
import { SNAPSHOTS_MAX } from './limits.ts'
import { domain, high, snapshot, text, xmlResult } from './objects.ts'
import { procedure } from './procedure.ts'

/** `flags`: `snapshotListFlag`. */
export const domainListAllSnapshots = procedure(
  274,
  struct({ domain, needResults: bool, flags: uint }),
  struct({ snapshots: array(snapshot, SNAPSHOTS_MAX), count: int }),
  high
)
export const domainSnapshotNum = procedure(187, struct({ domain, flags: uint }), struct({ count: int }), high)
export const domainSnapshotLookupByName = procedure(
  189,
  struct({ domain, name: text, flags: uint }),
  struct({ snapshot }),
  high
)
export const domainSnapshotGetXmlDesc = procedure(186, struct({ snapshot, flags: uint }), xmlResult, high)
export const domainSnapshotGetParent = procedure(
  244,
  struct({ snapshot, flags: uint }),
  struct({ snapshot }),
  high
)
export const domainHasCurrentSnapshot = procedure(
  190,
  struct({ domain, flags: uint }),
  struct({ current: bool })
)
export const domainSnapshotCurrent = procedure(191, struct({ domain, flags: uint }), struct({ snapshot }))
/** `flags`: `snapshotDeleteFlag`; metadata only leaves the images as they are. */
export const domainSnapshotDelete = procedure(193, struct({ snapshot, flags: uint }), nothing)
