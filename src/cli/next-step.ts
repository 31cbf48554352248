// What to do after an error, by its code, for errors whose message doesn't say it better itself.

import type { ErrorCode, HostletError } from '../errors.ts'

const steps: Readonly<Partial<Record<ErrorCode, string>>> = {
  E_NOT_FOUND: 'list what there is: hostlet vm ls, hostlet host ls, hostlet op ls',
  E_CONFLICT: 'look at what is there: hostlet vm ls, hostlet op ls',
  E_STALE: 'look at the VM as it is now: hostlet vm show NAME',
  E_AUTH: 'check the key, token and CA that you gave; an admin makes keys: hostlet key create',
  E_BUSY: 'try again in a moment; what is under way: hostlet op ls',
  E_UNAVAILABLE: 'try again when it is back; hostlet host ls shows who is connected',
  E_CAPACITY: 'free some room (hostlet vm ls) or take another host, then try again',
  E_TIMEOUT: 'look before trying again: hostlet op ls, hostlet vm ls',
  E_INTERRUPTED: 'look before trying again: hostlet op ls, hostlet vm ls',
  E_CANCELLED: 'look before trying again: hostlet op ls, hostlet vm ls',
  E_LIBVIRT: 'look at the VM (hostlet vm show NAME) and the host’s log (journalctl -u hostlet)',
  E_INTERNAL: 'please report it; HOSTLET_DEBUG=1 shows where it happened'
}

/** Undefined where the message itself goes on to say what to do, as most do in their second sentence. */
export function nextStep(error: HostletError): string | undefined {
  return /[.?!] \S/.test(error.message) ? undefined : steps[error.code]
}
