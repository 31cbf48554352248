// Declares the procedures of secrets. Values go in and are never asked back: private secrets have no way
// out anyway.

import { array, bool, bytes, int, nothing, struct, uint } from '../xdr/schema.ts'
import { SECRET_VALUE_BYTES_MAX, SECRETS_MAX } from './limits.ts'
import { high, secret, text, uuid, xmlResult } from './objects.ts'
import { procedure } from './procedure.ts'

const secretOnly = struct({ secret })

/**
 * An ephemeral secret is lost, with its definition, when the daemon restarts. `flags`: `secretDefineFlag`.
 */
export const secretDefineXml = procedure(142, struct({ xml: text, flags: uint }), secretOnly, high)
export const secretSetValue = procedure(
  144,
  struct({ secret, value: bytes(SECRET_VALUE_BYTES_MAX), flags: uint }),
  nothing,
  high
)
export const secretUndefine = procedure(146, secretOnly, nothing, high)
export const secretLookupByUuid = procedure(141, struct({ uuid }), secretOnly, high)
/** `usageType` is one of `secretUsageType`. */
export const secretLookupByUsage = procedure(147, struct({ usageType: int, usageId: text }), secretOnly, high)
/** The definition, without the value. */
export const secretGetXmlDesc = procedure(143, struct({ secret, flags: uint }), xmlResult, high)
export const connectNumOfSecrets = procedure(139, nothing, struct({ count: int }), high)
/** `flags`: `secretListFlag`, a filter; 0 lists all. */
export const connectListAllSecrets = procedure(
  287,
  struct({ needResults: bool, flags: uint }),
  struct({ secrets: array(secret, SECRETS_MAX), count: uint }),
  high
)
