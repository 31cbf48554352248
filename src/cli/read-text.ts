// Reading a file that a person named on the command line.

import { readFileSync } from 'node:fs'
import { HostletError } from '../errors.ts'

/** Throws E_BAD_REQUEST, with what the file was to be. */
export function readText(path: string, what: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch (cause) {
    const code = (cause as NodeJS.ErrnoException).code ?? 'unknown error'
    throw new HostletError('E_BAD_REQUEST', `${path}: the ${what} cannot be read (${code}).`, { cause })
  }
}
