// Declares the procedures of what a domain's definition carries for others: title, description, own elements.

import { int, nothing, struct, uint } from '../xdr/schema.ts'
import { domain, optionalText, text } from './objects.ts'
import { procedure } from './procedure.ts'

/**
 * `type` is one of `metadataType`; `element` needs `key` (the prefix) and `uri` (the namespace). A null
 * `metadata` removes it. `flags`: `modificationImpact`.
 */
export const domainSetMetadata = procedure(
  264,
  struct({ domain, type: int, metadata: optionalText, key: optionalText, uri: optionalText, flags: uint }),
  nothing
)
/** Fails with `noDomainMetadata` where there is none. */
export const domainGetMetadata = procedure(
  265,
  struct({ domain, type: int, uri: optionalText, flags: uint }),
  struct({ metadata: text })
)
