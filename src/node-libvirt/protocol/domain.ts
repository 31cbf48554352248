// Declares the procedures of a domain's life: define, look up, list, start, stop, describe, save, undefine.

import { array, bool, hyper, int, nothing, struct, uchar, uhyper, uint, ushort } from '../xdr/schema.ts'
import { DISK_ERRORS_MAX, DOMAIN_MESSAGES_MAX, DOMAINS_MAX } from './limits.ts'
import { domain, domainFlags, domainOnly, high, optionalText, text, uuid, xmlResult } from './objects.ts'
import { procedure } from './procedure.ts'

// Definitions.
export const domainDefineXml = procedure(11, struct({ xml: text }), struct({ domain }), high)
/** `flags`: `domainDefineFlag`. */
export const domainDefineXmlFlags = procedure(
  350,
  struct({ xml: text, flags: uint }),
  struct({ domain }),
  high
)
export const domainUndefine = procedure(35, domainOnly, nothing, high)
/** `flags`: `domainUndefineFlag`. A running domain stays, and becomes transient. */
export const domainUndefineFlags = procedure(231, domainFlags, nothing, high)
/** The domain must be off. A domain with snapshots or checkpoints cannot be renamed. */
export const domainRename = procedure(
  358,
  struct({ domain, newName: optionalText, flags: uint }),
  struct({ result: int })
)
/** `flags`: `domainXmlFlag`. Can wait for a job of the domain: poll events and statistics, not this. */
export const domainGetXmlDesc = procedure(14, domainFlags, xmlResult)
export const domainGetAutostart = procedure(15, domainOnly, struct({ autostart: bool }), high)
export const domainSetAutostart = procedure(29, struct({ domain, autostart: bool }), nothing, high)
export const domainIsPersistent = procedure(151, domainOnly, struct({ persistent: bool }), high)
export const domainIsUpdated = procedure(202, domainOnly, struct({ updated: bool }), high)

// Finding.
export const domainLookupById = procedure(22, struct({ id: int }), struct({ domain }), high)
export const domainLookupByName = procedure(23, struct({ name: text }), struct({ domain }), high)
export const domainLookupByUuid = procedure(24, struct({ uuid }), struct({ domain }), high)
/** `flags`: `domainListFlag`, a filter; 0 lists all. Without `needResults` only `count` is filled in. */
export const connectListAllDomains = procedure(
  273,
  struct({ needResults: bool, flags: uint }),
  struct({ domains: array(domain, DOMAINS_MAX), count: uint }),
  high
)
export const connectNumOfDomains = procedure(51, nothing, struct({ count: int }), high)
export const connectNumOfDefinedDomains = procedure(25, nothing, struct({ count: int }), high)
export const connectListDomains = procedure(
  37,
  struct({ idsMax: int }),
  struct({ ids: array(int, DOMAINS_MAX) }),
  high
)
export const connectListDefinedDomains = procedure(
  21,
  struct({ namesMax: int }),
  struct({ names: array(text, DOMAINS_MAX) }),
  high
)

// Starting and stopping.
export const domainCreate = procedure(9, domainOnly, nothing)
/** Starts a defined domain. `flags`: `domainCreateFlag`. */
export const domainCreateWithFlags = procedure(196, domainFlags, struct({ domain }))
/** Starts a transient domain, which vanishes when it stops. `flags`: `domainCreateFlag`. */
export const domainCreateXml = procedure(10, struct({ xml: text, flags: uint }), struct({ domain }))
/** Asks the guest to power off and returns at once; whether it does is the guest's affair. */
export const domainShutdown = procedure(33, domainOnly, nothing)
/** As `domainShutdown`, by the way that `domainShutdownFlag` names. */
export const domainShutdownFlags = procedure(258, domainFlags, nothing)
/** `flags`: `domainRebootFlag`. */
export const domainReboot = procedure(27, domainFlags, nothing)
export const domainReset = procedure(245, domainFlags, nothing)
/** Pulls the plug. Of priority `high`, so that it works while other calls hang. */
export const domainDestroy = procedure(12, domainOnly, nothing, high)
/** `flags`: `domainDestroyFlag`; graceful gives up with an error instead of sending SIGKILL. */
export const domainDestroyFlags = procedure(234, domainFlags, nothing, high)
export const domainSuspend = procedure(34, domainOnly, nothing)
export const domainResume = procedure(28, domainOnly, nothing)
/** What the domain does when its guest powers off, reboots or crashes (`domainLifecycle…`). */
export const domainSetLifecycleAction = procedure(
  390,
  struct({ domain, type: uint, action: uint, flags: uint }),
  nothing
)

// State.
/** `state` is one of `domainState`; `reason` depends on it (`domainRunningReason` and its kin). */
export const domainGetState = procedure(212, domainFlags, struct({ state: int, reason: int }), high)
export const domainGetInfo = procedure(
  16,
  domainOnly,
  struct({ state: uchar, memoryMaxKib: uhyper, memoryKib: uhyper, vcpus: ushort, cpuTimeNs: uhyper })
)
export const domainIsActive = procedure(150, domainOnly, struct({ active: bool }), high)
/** Whether the monitor of the domain answers: `domainControlState`, and for how long it has been so. */
export const domainGetControlInfo = procedure(
  229,
  domainFlags,
  struct({ state: uint, details: uint, stateTimeMs: uhyper }),
  high
)
export const domainGetOsType = procedure(19, domainOnly, struct({ type: text }), high)
/** `flags`: `domainHostnameSource`. */
export const domainGetHostname = procedure(277, domainFlags, struct({ hostname: text }))
/**
 * Disks whose last I/O error stopped the guest; `error` is one of `domainDiskError`. 0 asks for the count.
 */
export const domainGetDiskErrors = procedure(
  263,
  struct({ domain, errorsMax: uint, flags: uint }),
  struct({ errors: array(struct({ disk: text, error: int }), DISK_ERRORS_MAX), count: int })
)
/** libvirt's own remarks: deprecated or tainting settings. `flags`: `domainMessageType`. */
export const domainGetMessages = procedure(
  426,
  domainFlags,
  struct({ messages: array(text, DOMAIN_MESSAGES_MAX) })
)

// Managed save: the guest's memory on disk, from which the next start resumes.
export const domainManagedSave = procedure(182, domainFlags, nothing)
export const domainHasManagedSaveImage = procedure(183, domainFlags, struct({ saved: bool }))
export const domainManagedSaveRemove = procedure(184, domainFlags, nothing)
export const domainManagedSaveGetXmlDesc = procedure(388, domainFlags, xmlResult)

// The guest's clock, through its agent.
export const domainGetTime = procedure(337, domainFlags, struct({ seconds: hyper, nanoseconds: uint }))
/** `flags`: `domainTimeFlag`. */
export const domainSetTime = procedure(
  338,
  struct({ domain, seconds: hyper, nanoseconds: uint, flags: uint }),
  nothing
)
