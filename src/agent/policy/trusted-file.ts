// Files that only an administrator of the host may have written: what they say is believed, so their owner and mode are looked at first.

import { closeSync, fstatSync, openSync, readFileSync, statSync } from 'node:fs'
import { dirname } from 'node:path'
import { HostletError } from '../../errors.ts'

export const trustedFileBytesMax = 1024 * 1024

const writableByGroup = 0o020
const writableByOthers = 0o002
const anythingForOthers = 0o007
const sticky = 0o1000

export interface TrustedFileOptions {
  /** What the file is, for errors: "the policy". */
  readonly what: string
  /** Users besides root whom the file may belong to. */
  readonly owners?: readonly number[]
  /** Whether it holds a secret: then others may not read it either. */
  readonly secret?: boolean
}

/**
 * The content of a file that belongs to root, and that neither its group nor others can write or replace. Looked at
 * through the open file, so that what was checked is what is read. Throws E_NOT_FOUND when there is none, E_AUTH when
 * somebody else may have written it (or read it, where it is a secret), E_BAD_REQUEST when it cannot be read.
 */
export function readTrustedFile(path: string, options: TrustedFileOptions): string {
  const file = open(path, options.what)
  try {
    const { mode, uid, size } = fstatSync(file)
    const fault = faultOf({ mode, uid }, options) ?? directoryFault(dirname(path), options)
    if (fault !== undefined)
      throw new HostletError('E_AUTH', `${path}: ${fault}. Until that is mended ${options.what} is not used.`)
    if (size > trustedFileBytesMax)
      throw new HostletError(
        'E_BAD_REQUEST',
        `${path}: is ${size} bytes long, at most ${trustedFileBytesMax} are read`
      )
    return readFileSync(file, 'utf8')
  } finally {
    closeSync(file)
  }
}

interface Ownership {
  readonly mode: number
  readonly uid: number
}

function faultOf({ mode, uid }: Ownership, { owners = [], secret }: TrustedFileOptions): string | undefined {
  if (uid !== 0 && !owners.includes(uid)) return `belongs to user ${uid}, it has to belong to root`
  if ((mode & writableByOthers) !== 0) return 'everybody can write it ("chmod o-w" it)'
  if ((mode & writableByGroup) !== 0) return 'its group can write it ("chmod g-w" it)'
  if (secret === true && (mode & anythingForOthers) !== 0)
    return 'everybody can read it, and it is a secret ("chmod o-rwx" it)'
  return undefined
}

/** Whoever can write the directory can put another file in the place of this one, unless the directory is sticky. */
function directoryFault(path: string, { owners = [] }: TrustedFileOptions): string | undefined {
  const { mode, uid } = statSync(path)
  if (uid !== 0 && !owners.includes(uid))
    return `its directory ${path} belongs to user ${uid}, it has to belong to root`
  if ((mode & (writableByGroup | writableByOthers)) === 0 || (mode & sticky) !== 0) return undefined
  return `its directory ${path} can be written by others than its owner ("chmod go-w" it)`
}

function open(path: string, what: string): number {
  try {
    return openSync(path, 'r')
  } catch (cause) {
    const code = (cause as NodeJS.ErrnoException).code ?? 'unknown error'
    if (code === 'ENOENT')
      throw new HostletError(
        'E_NOT_FOUND',
        `${path}: no such file (${what}). Put it there, or mend the policy that names it.`,
        { cause }
      )
    throw new HostletError('E_BAD_REQUEST', `${path}: cannot be read (${code})`, { cause })
  }
}
