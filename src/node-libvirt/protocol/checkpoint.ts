// Declares the procedures of checkpoints: points in time since which the written blocks of a domain are
// known.

import { array, bool, int, nothing, struct, uint } from '../xdr/schema.ts'
import { CHECKPOINTS_MAX } from './limits.ts'
import { checkpoint, domain, high, text, xmlResult } from './objects.ts'
import { procedure } from './procedure.ts'

const list = struct({ checkpoints: array(checkpoint, CHECKPOINTS_MAX), count: int })

/** `flags`: `checkpointCreateFlag`; redefine restores metadata whose bitmaps are in the images already. */
export const domainCheckpointCreateXml = procedure(
  411,
  struct({ domain, xml: text, flags: uint }),
  struct({ checkpoint })
)
/** `flags`: `checkpointXmlFlag`; size adds what was written since, and needs a running domain. */
export const domainCheckpointGetXmlDesc = procedure(412, struct({ checkpoint, flags: uint }), xmlResult)
/** `flags`: `checkpointListFlag`; topological puts parents first. */
export const domainListAllCheckpoints = procedure(
  413,
  struct({ domain, needResults: bool, flags: uint }),
  list,
  high
)
export const domainCheckpointListAllChildren = procedure(
  414,
  struct({ checkpoint, needResults: bool, flags: uint }),
  list,
  high
)
export const domainCheckpointLookupByName = procedure(
  415,
  struct({ domain, name: text, flags: uint }),
  struct({ checkpoint }),
  high
)
export const domainCheckpointGetParent = procedure(
  416,
  struct({ checkpoint, flags: uint }),
  struct({ parent: checkpoint }),
  high
)
/** `flags`: `checkpointDeleteFlag`; metadata only where the bitmap is lost already. */
export const domainCheckpointDelete = procedure(417, struct({ checkpoint, flags: uint }), nothing)
