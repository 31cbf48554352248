// Declares the procedures that change a domain's devices, and the block devices of a domain in particular.

import { array, bool, int, nothing, struct, typedParameter, uhyper, uint } from '../xdr/schema.ts'
import { BLOCK_COPY_PARAMETERS_MAX } from './limits.ts'
import { domain, optionalText, text } from './objects.ts'
import { procedure } from './procedure.ts'

const deviceXml = struct({ domain, xml: text })
/** `flags`: `deviceModifyFlag`. */
const deviceXmlFlags = struct({ domain, xml: text, flags: uint })

export const domainAttachDevice = procedure(8, deviceXml, nothing)
export const domainAttachDeviceFlags = procedure(160, deviceXmlFlags, nothing)
export const domainDetachDevice = procedure(13, deviceXml, nothing)
/** Returns when the guest was asked: the device is gone when `deviceRemoved` arrives. */
export const domainDetachDeviceFlags = procedure(161, deviceXmlFlags, nothing)
export const domainDetachDeviceAlias = procedure(392, struct({ domain, alias: text, flags: uint }), nothing)
/** Changes a device in place: ejects or inserts a medium, moves an interface, changes a password. */
export const domainUpdateDeviceFlags = procedure(174, deviceXmlFlags, nothing)

// Block devices. `path` and `disk` take the target's name (`vda`) or the source's path.
export const domainGetBlockInfo = procedure(
  194,
  struct({ domain, path: text, flags: uint }),
  struct({ allocationBytes: uhyper, capacityBytes: uhyper, physicalBytes: uhyper })
)
/** `size` is in KiB, or in bytes with `blockResizeFlag.bytes`. */
export const domainBlockResize = procedure(
  251,
  struct({ domain, disk: text, size: uhyper, flags: uint }),
  nothing
)
/** An event when the guest writes past `thresholdBytes` of the image. `device` is `vda` or `vda[2]`. */
export const domainSetBlockThreshold = procedure(
  386,
  struct({ domain, device: text, thresholdBytes: uhyper, flags: uint }),
  nothing
)

// Block jobs: one at a time on a disk. Bandwidth is in MiB/s, or in bytes/s with the call's flag for it; 0
// is no limit.
/** `type` is one of `blockJobType`; all is zero where `found` is false. Done when `current` equals `end`. */
export const domainGetBlockJobInfo = procedure(
  238,
  struct({ domain, path: text, flags: uint }),
  struct({ found: bool, type: int, bandwidth: uhyper, current: uhyper, end: uhyper })
)
/** `flags`: `blockJobAbortFlag`; pivot ends a ready copy or active commit by switching to the new image. */
export const domainBlockJobAbort = procedure(237, struct({ domain, path: text, flags: uint }), nothing)
export const domainBlockJobSetSpeed = procedure(
  239,
  struct({ domain, path: text, bandwidth: uhyper, flags: uint }),
  nothing
)
/** Flattens: copies the backing chain into the image. */
export const domainBlockPull = procedure(
  240,
  struct({ domain, path: text, bandwidth: uhyper, flags: uint }),
  nothing
)
/** As pull, but keeps `base` and what lies below it. */
export const domainBlockRebase = procedure(
  266,
  struct({ domain, path: text, base: optionalText, bandwidth: uhyper, flags: uint }),
  nothing
)
/** Merges `top` down into `base`. `flags`: `blockCommitFlag`. */
export const domainBlockCommit = procedure(
  290,
  struct({ domain, disk: text, base: optionalText, top: optionalText, bandwidth: uhyper, flags: uint }),
  nothing
)
/** Mirrors a disk to the `<disk>` element in `destinationXml`. `flags`: `blockCopyFlag`. */
export const domainBlockCopy = procedure(
  345,
  struct({
    domain,
    path: text,
    destinationXml: text,
    parameters: array(typedParameter, BLOCK_COPY_PARAMETERS_MAX),
    flags: uint
  }),
  nothing
)
