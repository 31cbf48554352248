// Declares the procedures that open a byte stream to a guest: its serial console, or a virtio channel.

import { nothing, struct, uint } from '../xdr/schema.ts'
import { domain, optionalText } from './objects.ts'
import { procedure } from './procedure.ts'

/**
 * Both ways. `device` null is the first console. `flags`: `consoleFlag`; force throws out who is connected.
 */
export const domainOpenConsole = procedure(
  201,
  struct({ domain, device: optionalText, flags: uint }),
  nothing,
  { stream: 'read' }
)
/** Both ways. `name` is the target's name of a virtio channel. `flags`: `channelFlag`. */
export const domainOpenChannel = procedure(
  296,
  struct({ domain, name: optionalText, flags: uint }),
  nothing,
  { stream: 'read' }
)
