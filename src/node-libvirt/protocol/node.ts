// Declares the procedures about the host ("node"): CPUs, memory, pages, security labels, devices.

import {
  array,
  bool,
  bytes,
  charArray,
  chars,
  int,
  nothing,
  struct,
  typedParameter,
  uhyper,
  uint
} from '../xdr/schema.ts'
import {
  CPU_MAP_BYTES_MAX,
  NODE_CELLS_MAX,
  NODE_CPU_STATS_MAX,
  NODE_DEVICE_CAPABILITIES_MAX,
  NODE_DEVICES_MAX,
  NODE_MEMORY_PARAMETERS_MAX,
  NODE_MEMORY_STATS_MAX,
  NODE_MODEL_CHARACTERS,
  SECURITY_DOI_CHARACTERS_MAX,
  SECURITY_LABEL_CHARACTERS_MAX,
  SECURITY_LABELS_MAX,
  SECURITY_MODEL_CHARACTERS_MAX
} from './limits.ts'
import { domainOnly, high, nodeDevice, optionalText, text, xmlResult } from './objects.ts'
import { procedure } from './procedure.ts'

// Figures.
/** `cores` counts per socket, `sockets` per NUMA node; `cpus` is what the host has online. */
export const nodeGetInfo = procedure(
  6,
  nothing,
  struct({
    model: charArray(NODE_MODEL_CHARACTERS),
    memoryKib: uhyper,
    cpus: int,
    mhz: int,
    nodes: int,
    sockets: int,
    cores: int,
    threads: int
  }),
  high
)
/**
 * Nanoseconds since boot; names: `nodeCpuStatistic`. `cpu` -1 (`nodeAll`) sums all. Ask first with
 * `countMax` 0: any other value than the count of that reply is refused.
 */
export const nodeGetCpuStats = procedure(
  227,
  struct({ cpu: int, countMax: int, flags: uint }),
  struct({ statistics: array(struct({ name: text, value: uhyper }), NODE_CPU_STATS_MAX), count: int }),
  high
)
/** KiB; names: `nodeMemoryStatistic`. `cell` -1 (`nodeAll`) sums all. `countMax` as in `nodeGetCpuStats`. */
export const nodeGetMemoryStats = procedure(
  228,
  struct({ countMax: int, cell: int, flags: uint }),
  struct({ statistics: array(struct({ name: text, value: uhyper }), NODE_MEMORY_STATS_MAX), count: int }),
  high
)
export const nodeGetFreeMemory = procedure(102, nothing, struct({ freeBytes: uhyper }), high)
export const nodeGetCellsFreeMemory = procedure(
  101,
  struct({ startCell: int, cellsMax: int }),
  struct({ cellsFreeBytes: array(uhyper, NODE_CELLS_MAX) }),
  high
)
/** `cpuMap` has the online CPUs, lowest bit of the first byte first; `cpus` counts all that may come. */
export const nodeGetCpuMap = procedure(
  293,
  struct({ needMap: bool, needOnline: bool, flags: uint }),
  struct({ cpuMap: bytes(CPU_MAP_BYTES_MAX), online: uint, cpus: int })
)
/** Free pages of each size in `pageSizesKib`, cell after cell. */
export const nodeGetFreePages = procedure(
  340,
  struct({ pageSizesKib: array(uint, NODE_CELLS_MAX), startCell: int, cells: uint, flags: uint }),
  struct({ counts: array(uhyper, NODE_CELLS_MAX) }),
  high
)
/** Kernel same-page merging, as typed parameters. */
export const nodeGetMemoryParameters = procedure(
  289,
  struct({ parametersMax: int, flags: uint }),
  struct({ parameters: array(typedParameter, NODE_MEMORY_PARAMETERS_MAX), count: int })
)

// Confinement of guests.
export const nodeGetSecurityModel = procedure(
  122,
  nothing,
  struct({
    model: chars(SECURITY_MODEL_CHARACTERS_MAX),
    domainOfInterpretation: chars(SECURITY_DOI_CHARACTERS_MAX)
  }),
  high
)
const securityLabel = struct({ label: chars(SECURITY_LABEL_CHARACTERS_MAX), enforcing: int })
export const domainGetSecurityLabel = procedure(121, domainOnly, securityLabel, high)
export const domainGetSecurityLabelList = procedure(
  278,
  domainOnly,
  struct({ labels: array(securityLabel, SECURITY_LABELS_MAX), count: int }),
  high
)

// Devices of the host.
/** `flags`: `nodeDeviceListFlag`. */
export const connectListAllNodeDevices = procedure(
  285,
  struct({ needResults: bool, flags: uint }),
  struct({ devices: array(nodeDevice, NODE_DEVICES_MAX), count: uint }),
  high
)
export const nodeNumOfDevices = procedure(
  111,
  struct({ capability: optionalText, flags: uint }),
  struct({ count: int }),
  high
)
export const nodeDeviceLookupByName = procedure(
  113,
  struct({ name: text }),
  struct({ device: nodeDevice }),
  high
)
export const nodeDeviceGetXmlDesc = procedure(114, struct({ name: text, flags: uint }), xmlResult)
export const nodeDeviceGetParent = procedure(
  115,
  struct({ name: text }),
  struct({ parent: optionalText }),
  high
)
export const nodeDeviceListCaps = procedure(
  117,
  struct({ name: text, namesMax: int }),
  struct({ names: array(text, NODE_DEVICE_CAPABILITIES_MAX) }),
  high
)
