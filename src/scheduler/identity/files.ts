// Files that must survive a crash whole and be read by their owner only: keys, certificates, the first API key.

import { randomUUID } from 'node:crypto'
import { closeSync, fsyncSync, openSync, readFileSync, renameSync, rmSync, writeSync } from 'node:fs'
import { dirname } from 'node:path'
import { HostletError } from '../../errors.ts'

export const privateMode = 0o600

/** Writes beside the target, flushes, then renames: a reader sees the old file or the new one, never half of one. */
export function writePrivateFile(path: string, content: string): void {
  const temporary = `${path}.${randomUUID()}.tmp`
  try {
    const file = openSync(temporary, 'wx', privateMode)
    try {
      writeSync(file, content)
      fsyncSync(file)
    } finally {
      closeSync(file)
    }
    renameSync(temporary, path)
    flushDirectory(dirname(path))
  } catch (cause) {
    rmSync(temporary, { force: true })
    throw new HostletError('E_UNAVAILABLE', `${path} cannot be written. Check its directory and the disk.`, {
      cause
    })
  }
}

/** The content, or undefined where there is no such file. */
export function readIfThere(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8')
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw new HostletError('E_UNAVAILABLE', `${path} cannot be read. Check its owner and mode.`, { cause })
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
