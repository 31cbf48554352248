// Writing the two halves of a new key.

import { closeSync, existsSync, fsyncSync, openSync, rmSync, writeSync } from 'node:fs'
import { HostletError } from '../errors.ts'

export const publicFileMode = 0o644

/** All or none. A key that exists is never written over: backups may need it. */
export function writeNewFiles(files: readonly { path: string; mode: number; text: string }[]): void {
  const taken = files.find(({ path }) => existsSync(path))
  if (taken !== undefined)
    throw new HostletError(
      'E_CONFLICT',
      `${taken.path} exists already, and a key is never written over. Choose another name.`
    )
  const made: string[] = []
  try {
    for (const { path, mode, text } of files) {
      const file = openSync(path, 'wx', mode)
      made.push(path)
      try {
        writeSync(file, text)
        fsyncSync(file)
      } finally {
        closeSync(file)
      }
    }
  } catch (cause) {
    for (const path of made) rmSync(path, { force: true })
    const code = (cause as NodeJS.ErrnoException).code ?? 'unknown error'
    throw new HostletError(
      'E_BAD_REQUEST',
      `the key cannot be written (${code}). Choose another place for it.`,
      { cause }
    )
  }
}
