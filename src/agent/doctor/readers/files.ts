// Reads files and directories of the host for the doctor: what cannot be read is said, never guessed.

import { readdir, readFile, stat, statfs } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import type { Reading } from '../check.ts'
import type { Place } from '../facts.ts'
import { fileSystemName, isInMemory } from '../file-systems.ts'
import { isEncrypted } from './block-devices.ts'

/** What `read` gives, or why it threw. */
export async function reading<Value>(read: () => Promise<Value>): Promise<Reading<Value>> {
  try {
    return { value: await read() }
  } catch (error) {
    return { unreadable: reasonOf(error) }
  }
}

export function reasonOf(error: unknown): string {
  const { code, path, message } = error as NodeJS.ErrnoException
  const where = path === undefined ? '' : `${path}: `
  if (code === 'EACCES' || code === 'EPERM') return `${where}not permitted, run as root`
  if (code === 'ENOENT') return `${where}does not exist`
  return message
}

/** The text of a file, undefined where there is none. */
export async function textOf(path: string): Promise<string | undefined> {
  try {
    return (await readFile(path, 'utf8')).trim()
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw error
  }
}

export async function namesIn(path: string): Promise<string[]> {
  try {
    return await readdir(path)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return []
    throw error
  }
}

export async function place(path: string): Promise<Place> {
  const { mode, uid, gid, dev } = await stat(path)
  const { type } = await statfs(path)
  return {
    path,
    mode,
    uid,
    gid,
    fileSystem: fileSystemName(type),
    inMemory: isInMemory(type),
    encrypted: await isEncrypted(dev)
  }
}

/** The place of a directory that may not be made yet: that of the nearest one above which is there. */
export async function placeOrAbove(path: string): Promise<Place> {
  try {
    return await place(path)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT' || path === '/') throw error
    return await placeOrAbove(dirname(path))
  }
}

/** Files below a directory with their modes, not deeper than `depth`. */
export async function filesIn(path: string, depth = 1): Promise<{ path: string; mode: number }[]> {
  const found: { path: string; mode: number }[] = []
  for (const name of await namesIn(path)) {
    const full = join(path, name)
    const entry = await stat(full).catch(() => undefined)
    if (entry?.isFile()) found.push({ path: full, mode: entry.mode })
    else if (entry?.isDirectory() && depth > 1) found.push(...(await filesIn(full, depth - 1)))
  }
  return found
}
