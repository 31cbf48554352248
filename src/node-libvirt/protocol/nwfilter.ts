// Declares the procedures of network filters and of their bindings to the interfaces of domains.

import { array, bool, int, nothing, struct, uint } from '../xdr/schema.ts'
import { NWFILTER_BINDINGS_MAX, NWFILTERS_MAX } from './limits.ts'
import { nwfilterBinding as binding, high, nwfilter, text, uuid, xmlResult } from './objects.ts'
import { procedure } from './procedure.ts'

const filterOnly = struct({ nwfilter })
const bindingOnly = struct({ binding })

export const nwfilterDefineXml = procedure(180, struct({ xml: text }), filterOnly, high)
/** `flags`: `nwfilterDefineFlag`. */
export const nwfilterDefineXmlFlags = procedure(431, struct({ xml: text, flags: uint }), filterOnly, high)
/** Refused while an interface of a running domain uses it. */
export const nwfilterUndefine = procedure(181, filterOnly, nothing, high)
export const nwfilterLookupByName = procedure(175, struct({ name: text }), filterOnly, high)
export const nwfilterLookupByUuid = procedure(176, struct({ uuid }), filterOnly, high)
export const nwfilterGetXmlDesc = procedure(177, struct({ nwfilter, flags: uint }), xmlResult, high)
export const connectNumOfNwfilters = procedure(178, nothing, struct({ count: int }), high)
export const connectListAllNwfilters = procedure(
  286,
  struct({ needResults: bool, flags: uint }),
  struct({ nwfilters: array(nwfilter, NWFILTERS_MAX), count: uint }),
  high
)

/** `flags`: `nwfilterBindingCreateFlag`. */
export const nwfilterBindingCreateXml = procedure(399, struct({ xml: text, flags: uint }), bindingOnly, high)
export const nwfilterBindingDelete = procedure(400, bindingOnly, nothing, high)
export const nwfilterBindingLookupByPortDev = procedure(397, struct({ portDevice: text }), bindingOnly, high)
export const nwfilterBindingGetXmlDesc = procedure(398, struct({ binding, flags: uint }), xmlResult, high)
export const connectListAllNwfilterBindings = procedure(
  401,
  struct({ needResults: bool, flags: uint }),
  struct({ bindings: array(binding, NWFILTER_BINDINGS_MAX), count: uint }),
  high
)
