// Files whose content has to be gone, not only their name: overwritten where they lie, flushed, and then unlinked.

import { randomBytes } from 'node:crypto'
import {
  closeSync,
  fstatSync,
  fsyncSync,
  linkSync,
  openSync,
  readdirSync,
  rmSync,
  statSync,
  writeSync
} from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { HostletError } from '../errors.ts'
import { writePrivateFile } from './private-file.ts'

const beforePrefix = '.before.'
const leftoverPrefix = '.'

/**
 * Overwrites a file in place, flushes it, removes it, and flushes its directory. What that is worth depends on the disk: one
 * that writes elsewhere than where it is told to (SSD, copy-on-write, snapshots) may keep the old bytes. False when there
 * was none. Throws E_UNAVAILABLE.
 */
export function shredFile(path: string): boolean {
  return failing(path, 'destroyed', () => {
    const file = openOrAbsent(path)
    if (file === undefined) return false
    overwrite(file)
    rmSync(path)
    flushDirectory(dirname(path))
    return true
  })
}

/** As writePrivateFile, and what the file held before is shredded once the new content is in its place. */
export function replacePrivateFile(path: string, content: string): void {
  const before = join(dirname(path), `${beforePrefix}${basename(path)}`)
  failing(path, 'replaced', () => {
    rmSync(before, { force: true })
    try {
      linkSync(path, before)
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error
    }
  })
  writePrivateFile(path, content)
  shredFile(before)
}

/** Shreds what a crash left of these two in a directory that holds nothing else beginning with a dot. */
export function shredLeftovers(directory: string): void {
  for (const name of readdirSync(directory).filter((each) => each.startsWith(leftoverPrefix))) {
    const path = join(directory, name)
    // Before the new content was in its place: another name of the file that is still the good one.
    if (name.startsWith(beforePrefix) && statSync(path).nlink > 1) rmSync(path)
    else shredFile(path)
  }
}

function overwrite(file: number): void {
  try {
    writeSync(file, randomBytes(Math.max(1, fstatSync(file).size)), 0, undefined, 0)
    fsyncSync(file)
  } finally {
    closeSync(file)
  }
}

function openOrAbsent(path: string): number | undefined {
  try {
    return openSync(path, 'r+')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw error
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

function failing<Value>(path: string, what: string, work: () => Value): Value {
  try {
    return work()
  } catch (cause) {
    const code = String((cause as NodeJS.ErrnoException).code ?? 'unknown error')
    throw new HostletError('E_UNAVAILABLE', `${path} could not be ${what} (${code})`, { cause })
  }
}
