// Files that only their owner may read, written so that a crash leaves the old content or the new, never half of it.

import { randomUUID } from 'node:crypto'
import {
  chmodSync,
  closeSync,
  fsyncSync,
  mkdirSync,
  openSync,
  renameSync,
  rmSync,
  writeFileSync
} from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { HostletError } from '../errors.ts'

export const privateFileMode = 0o600
export const privateDirectoryMode = 0o700

/** Writes beside the target, flushes, renames, and flushes the directory. Throws E_UNAVAILABLE. */
export function writePrivateFile(path: string, content: string | Uint8Array): void {
  const temporary = join(dirname(path), `.${basename(path)}.${randomUUID()}`)
  try {
    writeFlushed(temporary, content)
    renameSync(temporary, path)
    flushDirectory(dirname(path))
  } catch (cause) {
    rmSync(temporary, { force: true })
    throw new HostletError('E_UNAVAILABLE', `${path} could not be written (${codeOf(cause)})`, { cause })
  }
}

/** Makes the directory where there is none, and closes it to others. Throws E_UNAVAILABLE. */
export function ensurePrivateDirectory(path: string): void {
  try {
    mkdirSync(path, { recursive: true, mode: privateDirectoryMode })
    chmodSync(path, privateDirectoryMode)
  } catch (cause) {
    throw new HostletError(
      'E_UNAVAILABLE',
      `the directory ${path} cannot be made private (${codeOf(cause)}). It must belong to the user that runs hostlet.`,
      { cause }
    )
  }
}

function writeFlushed(path: string, content: string | Uint8Array): void {
  const file = openSync(path, 'wx', privateFileMode)
  try {
    writeFileSync(file, content)
    fsyncSync(file)
  } finally {
    closeSync(file)
  }
}

function flushDirectory(path: string): void {
  const directory = openSync(path, 'r')
  try {
    fsyncSync(directory)
  } finally {
    closeSync(directory)
  }
}

function codeOf(error: unknown): string {
  return String((error as NodeJS.ErrnoException).code ?? 'unknown error')
}
