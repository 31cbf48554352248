// Reading a file that may not be there yet, as before the first start.

import { readFileSync } from 'node:fs'
import { HostletError } from '../../errors.ts'

/** The content, or undefined where there is no such file. Throws E_UNAVAILABLE. */
export function readIfThere(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8')
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw new HostletError('E_UNAVAILABLE', `${path} cannot be read. Check its owner and mode.`, { cause })
  }
}
