// Declares the procedures of virtual networks, their ports and leases, and of the host's interfaces.

import { array, bool, hyper, type Infer, int, nothing, struct, typedParameter, uint } from '../xdr/schema.ts'

import {
  DHCP_LEASES_MAX,
  INTERFACES_MAX,
  NETWORK_PORT_PARAMETERS_MAX,
  NETWORK_PORTS_MAX,
  NETWORKS_MAX
} from './limits.ts'
import {
  high,
  network,
  networkInterface,
  optionalText,
  networkPort as port,
  text,
  uuid,
  xmlResult
} from './objects.ts'
import { procedure } from './procedure.ts'

const networkOnly = struct({ network })
const networkFlags = struct({ network, flags: uint })
const portFlags = struct({ port, flags: uint })
const interfaceOnly = struct({ interface: networkInterface })
const xmlOnly = struct({ xml: text })
const xmlFlags = struct({ xml: text, flags: uint })

// Networks.
export const networkDefineXml = procedure(41, xmlOnly, networkOnly, high)
/** `flags`: `networkDefineFlag`. */
export const networkDefineXmlFlags = procedure(432, xmlFlags, networkOnly, high)
export const networkCreateXml = procedure(40, xmlOnly, networkOnly)
/** A transient network. `flags`: `networkCreateFlag`. */
export const networkCreateXmlFlags = procedure(437, xmlFlags, networkOnly, high)
export const networkCreate = procedure(39, networkOnly, nothing)
export const networkDestroy = procedure(42, networkOnly, nothing, high)
export const networkUndefine = procedure(49, networkOnly, nothing, high)
export const networkLookupByName = procedure(46, struct({ name: text }), networkOnly, high)
export const networkLookupByUuid = procedure(47, struct({ uuid }), networkOnly, high)
/** `flags`: `networkXmlFlag`. */
export const networkGetXmlDesc = procedure(43, networkFlags, xmlResult, high)
export const networkGetBridgeName = procedure(45, networkOnly, struct({ name: text }), high)
export const networkGetAutostart = procedure(44, networkOnly, struct({ autostart: bool }), high)
export const networkSetAutostart = procedure(48, struct({ network, autostart: bool }), nothing, high)
export const networkIsActive = procedure(152, networkOnly, struct({ active: bool }), high)
export const networkIsPersistent = procedure(153, networkOnly, struct({ persistent: bool }), high)
/**
 * Adds, changes or removes one element: `command` is one of `networkUpdateCommand`, `section` one of
 * `networkUpdateSection`, `parentIndex` which of several parents (-1: any). Servers that lack
 * `connectFeature.networkUpdateOrder` take command and section the other way round. `flags`:
 * `networkUpdateFlag`.
 */
export const networkUpdate = procedure(
  291,
  struct({ network, command: uint, section: uint, parentIndex: int, xml: text, flags: uint }),
  nothing,
  high
)
/** `flags`: `networkListFlag`, a filter; 0 lists all. */
export const connectListAllNetworks = procedure(
  283,
  struct({ needResults: bool, flags: uint }),
  struct({ networks: array(network, NETWORKS_MAX), count: uint }),
  high
)
export const connectNumOfNetworks = procedure(52, nothing, struct({ count: int }), high)
export const connectNumOfDefinedNetworks = procedure(50, nothing, struct({ count: int }), high)
export const networkSetMetadata = procedure(
  444,
  struct({ network, type: int, metadata: optionalText, key: optionalText, uri: optionalText, flags: uint }),
  nothing
)
export const networkGetMetadata = procedure(
  445,
  struct({ network, type: int, uri: optionalText, flags: uint }),
  struct({ metadata: text })
)

/** `expiry` is in seconds since 1970, 0 for never; `type` is one of `ipAddressType`. */
export const dhcpLease = struct({
  interface: text,
  expiry: hyper,
  type: int,
  mac: optionalText,
  /** IPv6's identity association; null for IPv4. */
  iaid: optionalText,
  address: text,
  prefixBits: uint,
  hostname: optionalText,
  clientId: optionalText
})
export type DhcpLease = Infer<typeof dhcpLease>
/** `mac` null asks for all. The names are what guests claim. */
export const networkGetDhcpLeases = procedure(
  341,
  struct({ network, mac: optionalText, needResults: bool, flags: uint }),
  struct({ leases: array(dhcpLease, DHCP_LEASES_MAX), count: uint })
)

// Ports: one for each interface that a running domain has in a network.
export const networkListAllPorts = procedure(
  404,
  struct({ network, needResults: bool, flags: uint }),
  struct({ ports: array(port, NETWORK_PORTS_MAX), count: uint }),
  high
)
export const networkPortLookupByUuid = procedure(405, struct({ network, uuid }), struct({ port }), high)
/** `flags`: `networkPortCreateFlag`. */
export const networkPortCreateXml = procedure(
  406,
  struct({ network, xml: text, flags: uint }),
  struct({ port })
)
/** Names: `bandwidthParameter`. */
export const networkPortGetParameters = procedure(
  407,
  struct({ port, parametersMax: int, flags: uint }),
  struct({ parameters: array(typedParameter, NETWORK_PORT_PARAMETERS_MAX), count: int })
)
export const networkPortSetParameters = procedure(
  408,
  struct({ port, parameters: array(typedParameter, NETWORK_PORT_PARAMETERS_MAX), flags: uint }),
  nothing
)
export const networkPortGetXmlDesc = procedure(409, portFlags, xmlResult)
export const networkPortDelete = procedure(410, portFlags, nothing)

// The host's interfaces, where a driver for them is installed.
/** `flags`: `interfaceListFlag`. */
export const connectListAllInterfaces = procedure(
  284,
  struct({ needResults: bool, flags: uint }),
  struct({ interfaces: array(networkInterface, INTERFACES_MAX), count: uint }),
  high
)
export const interfaceLookupByName = procedure(128, struct({ name: text }), interfaceOnly, high)
export const interfaceLookupByMacString = procedure(129, struct({ mac: text }), interfaceOnly, high)
export const interfaceGetXmlDesc = procedure(
  130,
  struct({ interface: networkInterface, flags: uint }),
  xmlResult
)
export const interfaceIsActive = procedure(156, interfaceOnly, struct({ active: bool }), high)
