// What a file system's refusals mean to whoever stores backups there, and what to do next.

import { type ErrorCode, HostletError } from '../../errors.ts'

interface Meaning {
  readonly code: ErrorCode
  readonly text: string
}

const full = 'has no space left. Free some, or prune old backups'
const denied = 'refuses access. The directory and everything in it must belong to the user that runs hostlet'
const gone = 'does not answer as it should. Look at its mount and the kernel log'
const foreign =
  'holds something else where a backup should be (a link, a folder or a device). Somebody changed the repository by hand'

const meanings: Readonly<Record<string, Meaning>> = {
  ENOSPC: { code: 'E_CAPACITY', text: full },
  EDQUOT: { code: 'E_CAPACITY', text: 'has used up its quota. Raise it, or prune old backups' },
  EFBIG: { code: 'E_CAPACITY', text: 'allows no files of this size. Use another file system or limit' },
  EMFILE: { code: 'E_UNAVAILABLE', text: 'cannot be used: too many files are open in this process' },
  ENFILE: { code: 'E_UNAVAILABLE', text: 'cannot be used: too many files are open on this host' },
  EACCES: { code: 'E_AUTH', text: denied },
  EPERM: { code: 'E_AUTH', text: denied },
  EROFS: { code: 'E_UNAVAILABLE', text: 'is mounted read-only. Look at its mount and the kernel log' },
  EIO: { code: 'E_UNAVAILABLE', text: gone },
  ESTALE: { code: 'E_UNAVAILABLE', text: gone },
  ENOTCONN: { code: 'E_UNAVAILABLE', text: gone },
  ETIMEDOUT: { code: 'E_UNAVAILABLE', text: gone },
  EHOSTDOWN: { code: 'E_UNAVAILABLE', text: gone },
  EBUSY: { code: 'E_UNAVAILABLE', text: gone },
  ENOENT: { code: 'E_UNAVAILABLE', text: 'is not there any more. Look at its mount' },
  ELOOP: { code: 'E_CORRUPT', text: foreign },
  ENOTDIR: { code: 'E_CORRUPT', text: foreign },
  EISDIR: { code: 'E_CORRUPT', text: foreign },
  ENXIO: { code: 'E_CORRUPT', text: foreign }
}

/** A thrown value of a system call as HostletError; others pass unchanged. */
export function directoryError(thrown: unknown, description: string, name: string): unknown {
  const { code: systemCode } = thrown as NodeJS.ErrnoException
  if (thrown instanceof HostletError || !(thrown instanceof Error) || systemCode === undefined) return thrown
  const { code, text }: Meaning = meanings[systemCode] ?? { code: 'E_UNAVAILABLE', text: gone }
  return new HostletError(code, `the repository ${description} ${text} (${systemCode} at "${name}").`, {
    cause: thrown,
    details: { repository: description, name, systemCode }
  })
}

export function foreignEntry(name: string, description: string): HostletError {
  return new HostletError('E_CORRUPT', `the repository ${description} ${foreign} ("${name}").`, {
    details: { repository: description, name }
  })
}

export function hasSystemCode(thrown: unknown, ...codes: readonly string[]): boolean {
  return codes.includes(String((thrown as NodeJS.ErrnoException).code))
}
