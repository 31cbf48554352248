// Declares the procedures that need the guest's agent, or that read what the guest is known by (its
// addresses).

import { array, int, nothing, struct, typedParameter, uhyper, uint } from '../xdr/schema.ts'
import {
  DOMAIN_INTERFACES_MAX,
  FILE_SYSTEM_DISKS_MAX,
  FILE_SYSTEMS_MAX,
  FREEZE_MOUNT_POINTS_MAX,
  GUEST_INFO_PARAMETERS_MAX,
  IP_ADDRESSES_MAX
} from './limits.ts'
import { domain, domainFlags, optionalText, text } from './objects.ts'
import { procedure } from './procedure.ts'

/**
 * Sends `command` (JSON) to the agent. `timeoutSeconds` may be one of `agentTimeout`. For liveness (`guest-
 * ping`) only: the agent also runs programs and reads files, which is not for us.
 */
export const domainQemuAgentCommand = procedure(
  3,
  struct({ domain, command: text, timeoutSeconds: int, flags: uint }),
  struct({ result: optionalText }),
  { program: 'qemu' }
)
export const domainAgentSetResponseTimeout = procedure(
  420,
  struct({ domain, timeoutSeconds: int, flags: uint }),
  struct({ result: int })
)

/** `source` is one of `addressSource`; `type` of an address is one of `ipAddressType`. */
export const domainInterfaceAddresses = procedure(
  353,
  struct({ domain, source: uint, flags: uint }),
  struct({
    interfaces: array(
      struct({
        name: text,
        mac: optionalText,
        addresses: array(struct({ type: int, address: text, prefixBits: uint }), IP_ADDRESSES_MAX)
      }),
      DOMAIN_INTERFACES_MAX
    )
  })
)

// Freezing can hang or lose its reply: give it a hard deadline, and thaw always.
/** `mountPoints` empty freezes all. Returns how many were frozen. */
export const domainFsFreeze = procedure(
  335,
  struct({ domain, mountPoints: array(text, FREEZE_MOUNT_POINTS_MAX), flags: uint }),
  struct({ fileSystems: int })
)
export const domainFsThaw = procedure(
  336,
  struct({ domain, mountPoints: array(text, FREEZE_MOUNT_POINTS_MAX), flags: uint }),
  struct({ fileSystems: int })
)
export const domainFsTrim = procedure(
  294,
  struct({ domain, mountPoint: optionalText, minimumBytes: uhyper, flags: uint }),
  nothing
)
export const domainGetFsInfo = procedure(
  349,
  domainFlags,
  struct({
    fileSystems: array(
      struct({
        mountPoint: text,
        name: text,
        type: text,
        deviceAliases: array(text, FILE_SYSTEM_DISKS_MAX)
      }),
      FILE_SYSTEMS_MAX
    ),
    count: uint
  })
)
/** `types` is a union of `guestInfoType`, 0 for all. */
export const domainGetGuestInfo = procedure(
  418,
  struct({ domain, types: uint, flags: uint }),
  struct({ parameters: array(typedParameter, GUEST_INFO_PARAMETERS_MAX) })
)
