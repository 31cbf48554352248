// Which machine an identity belongs to: a copy of the state directory on another one is noticed before it connects.

import { createHmac } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { HostletError } from '../../errors.ts'
import type { Identity } from './identity.ts'

export const machineIdPath = '/etc/machine-id'

/**
 * Stands for this installation of an operating system: a hash of /etc/machine-id, which itself is not for others to know
 * (machine-id(5)). It stays when disks or boards are replaced, and is another one on a machine that was installed anew.
 * Undefined where there is none, as in some containers.
 */
export function readMachine(path: string = machineIdPath): string | undefined {
  const id = read(path)?.trim() ?? ''
  if (!/^[0-9a-f]{32}$/.test(id) || /^0+$/.test(id)) return undefined
  return createHmac('sha256', Buffer.from(id, 'hex')).update('hostlet identity').digest('hex')
}

/** Throws E_CONFLICT when the identity was given to another machine; says nothing where either is not known. */
export function checkMachine({ machine, hostId }: Identity, here: string | undefined): void {
  if (machine === undefined || here === undefined || machine === here) return
  throw new HostletError(
    'E_CONFLICT',
    `the identity of host ${hostId} belongs to another machine: this state directory is a copy of that one's. Make a token with "hostlet host token" and enroll this machine as a host of its own with "hostlet enroll --force"; if it is the same host, installed anew, and the other is gone for good, run "hostlet enroll --moved". Then restart the agent.`,
    { details: { reason: 'other-machine' } }
  )
}

function read(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    // Absent or closed to us: then there is nothing to compare.
    return undefined
  }
}
