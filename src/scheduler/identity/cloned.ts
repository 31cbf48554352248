// What is said when two machines use the identity of one host.

import { HostletError } from '../../errors.ts'

/** Why a connection ends once a clone was noticed; a close frame has little room. */
export const clonedReason =
  'two machines use the identity of this host; see "hostlet host show" for what to do'

/** What both agents are told, and operators. Its `details.reason` is `cloned-host`. */
export function clonedRefusal(id: string): HostletError {
  return new HostletError(
    'E_CONFLICT',
    `two machines use the identity of host ${id}, so neither may. Take the copy away, then run "hostlet host settle ${id}"; if the copy may be in wrong hands, revoke the host with "hostlet host rm ${id}" and enroll it anew.`,
    { details: { reason: 'cloned-host' } }
  )
}
