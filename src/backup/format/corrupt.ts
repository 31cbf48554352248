// The error of stored bytes that are not what was stored, with the object and the entry that are at fault.

import { HostletError } from '../../errors.ts'

export interface Place {
  /** Name of the object in its repository. */
  readonly object: string
  /** Entry number within a pack. */
  readonly entry?: number
}

/** E_CORRUPT that names its place. `what` continues "<object>, entry 7: …". */
export function corrupt(place: Place, what: string, cause?: unknown): HostletError {
  const { object, entry } = place
  const where = entry === undefined ? object : `${object}, entry ${entry}`
  const details = entry === undefined ? { object } : { object, entry }
  return new HostletError('E_CORRUPT', `${where}: ${what}. The repository is damaged there.`, {
    details,
    ...(cause === undefined ? {} : { cause })
  })
}
