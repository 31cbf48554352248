// The locked room: all that can be said to the agent in a guest, and the only file that says anything to it.

import {
  type Connection,
  type Domain,
  domainAgentSetResponseTimeout,
  domainFsFreeze,
  domainFsThaw
} from 'node-libvirt'

/**
 * Commands of QEMU's agent that are ever sent, besides the `guest-sync` with which libvirt itself begins. The agent could also
 * run programs, read files and set passwords: none of that is for a host to do. A test holds this list and the imports of
 * every other file against it.
 */
export const guestCommands = ['guest-fsfreeze-freeze', 'guest-fsfreeze-thaw'] as const

interface Call {
  readonly signal: AbortSignal
  readonly deadlineMs: number
}

/** Has all file systems stand still. The agent is waited for at most so long, and a lost answer says nothing: thaw. */
export async function freezeGuest(
  connection: Connection,
  domain: Domain,
  { timeoutSeconds, limitMs, ...call }: Call & { timeoutSeconds: number; limitMs: number }
): Promise<void> {
  // Kept by libvirt; nothing is sent.
  const limit = { domain, timeoutSeconds, flags: 0 }
  await connection.call(domainAgentSetResponseTimeout, limit, { signal: call.signal, deadlineMs: limitMs })
  await connection.call(domainFsFreeze, { domain, mountPoints: [], flags: 0 }, call)
}

/** How many file systems were standing still. */
export async function thawGuest(connection: Connection, domain: Domain, call: Call): Promise<number> {
  return (await connection.call(domainFsThaw, { domain, mountPoints: [], flags: 0 }, call)).fileSystems
}
