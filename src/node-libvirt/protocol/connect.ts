// Declares the procedures of the connection itself: opening, authentication, versions, capabilities, CPUs.

import { array, bool, int, nothing, struct, uhyper, uint } from '../xdr/schema.ts'
import { AUTH_TYPES_MAX, CPU_BASELINE_INPUTS_MAX, CPU_MODELS_MAX } from './limits.ts'
import { high, optionalText, text } from './objects.ts'
import { event, procedure } from './procedure.ts'

/** The first call of every connection, before which all others are refused. Values: `authType`. */
export const authList = procedure(66, nothing, struct({ types: array(int, AUTH_TYPES_MAX) }), high)
export const authPolkit = procedure(70, nothing, struct({ complete: int }), high)

/**
 * `name` is the URI without its transport (`qemu:///system`). A second open on a connection is an error, and the
 * server then forgets the first as well.
 */
export const connectOpen = procedure(1, struct({ name: optionalText, flags: uint }), nothing, high)
/** The server replies, then closes the socket. */
export const connectClose = procedure(2, nothing, nothing, high)
/** `feature` is one of `connectFeature`. Asking for keepalive is what makes the server send pings. */
export const connectSupportsFeature = procedure(
  60,
  struct({ feature: int }),
  struct({ supported: bool }),
  high
)
export const connectIsSecure = procedure(149, nothing, struct({ secure: bool }), high)
export const connectRegisterCloseCallback = procedure(360, nothing, nothing, high)
export const connectUnregisterCloseCallback = procedure(361, nothing, nothing, high)
/** Sent when the hypervisor behind the daemon goes away. `reason` is one of `connectCloseReason`. */
export const connectEventConnectionClosed = event(362, struct({ reason: int }))

export const connectGetType = procedure(3, nothing, struct({ type: text }), high)
/** The hypervisor's version: major * 1,000,000 + minor * 1,000 + release. */
export const connectGetVersion = procedure(4, nothing, struct({ version: uhyper }), high)
/** The daemon's version, in the same form as the hypervisor's. */
export const connectGetLibVersion = procedure(157, nothing, struct({ version: uhyper }), high)
export const connectGetHostname = procedure(59, nothing, struct({ hostname: text }), high)
export const connectGetUri = procedure(110, nothing, struct({ uri: text }), high)
/** The host's SMBIOS tables as XML. */
export const connectGetSysinfo = procedure(203, struct({ flags: uint }), struct({ sysinfo: text }), high)

export const connectGetCapabilities = procedure(7, nothing, struct({ capabilities: text }))
export const connectGetDomainCapabilities = procedure(
  342,
  struct({
    emulator: optionalText,
    architecture: optionalText,
    machine: optionalText,
    virtType: optionalText,
    flags: uint
  }),
  struct({ capabilities: text })
)

/** `type` is a hypervisor's name as in a domain's XML (`kvm`, `qemu`). */
export const connectGetMaxVcpus = procedure(
  5,
  struct({ type: optionalText }),
  struct({ vcpusMax: int }),
  high
)
/** Without `needResults` only `count` is filled in; it is -1 where the driver accepts any model. */
export const connectGetCpuModelNames = procedure(
  312,
  struct({ architecture: text, needResults: bool, flags: uint }),
  struct({ models: array(text, CPU_MODELS_MAX), count: int })
)
/** `result` is one of `cpuCompareResult`. */
export const connectCompareCpu = procedure(
  158,
  struct({ xml: text, flags: uint }),
  struct({ result: int }),
  high
)
export const connectBaselineCpu = procedure(
  162,
  struct({ xmlCpus: array(text, CPU_BASELINE_INPUTS_MAX), flags: uint }),
  struct({ cpu: text })
)
/** As `connectCompareCpu`, but against what the hypervisor can give a guest rather than the bare host. */
export const connectCompareHypervisorCpu = procedure(
  393,
  struct({
    emulator: optionalText,
    architecture: optionalText,
    machine: optionalText,
    virtType: optionalText,
    xmlCpu: text,
    flags: uint
  }),
  struct({ result: int })
)
export const connectBaselineHypervisorCpu = procedure(
  394,
  struct({
    emulator: optionalText,
    architecture: optionalText,
    machine: optionalText,
    virtType: optionalText,
    xmlCpus: array(text, CPU_BASELINE_INPUTS_MAX),
    flags: uint
  }),
  struct({ cpu: text })
)
