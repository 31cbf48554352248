// A file that is made for a disk: nothing is there before, everything is on disk at the end, nothing is left after a failure.

import { constants } from 'node:fs'
import { type FileHandle, open, rm } from 'node:fs/promises'
import { dirname } from 'node:path'
import { HostletError } from '../../errors.ts'
import { privateFileMode } from '../../lib/private-file.ts'

/** Opens a file that does not exist yet. `reuse` takes an existing one and empties it. Throws E_CONFLICT, E_UNAVAILABLE. */
export async function createFile(path: string, { reuse = false } = {}): Promise<FileHandle> {
  const exclusive = reuse ? constants.O_TRUNC : constants.O_CREAT | constants.O_EXCL
  try {
    return await open(path, constants.O_RDWR | constants.O_NOFOLLOW | exclusive, privateFileMode)
  } catch (error) {
    throw fileFault(error, path)
  }
}

/** Writes all of it: a write may be cut short by the kernel. */
export async function writeAll(
  file: FileHandle,
  path: string,
  data: Uint8Array,
  offset: number
): Promise<void> {
  try {
    for (let done = 0; done < data.length; ) {
      const { bytesWritten } = await file.write(data, done, data.length - done, offset + done)
      done += bytesWritten
    }
  } catch (error) {
    throw fileFault(error, path)
  }
}

/** Bytes after which the kernel is asked to begin writing them out, so that not all is left for the end. */
const flushEveryBytes = 128 * 1024 * 1024

/** Writes out in the background what has gathered, one flush at a time. */
export class BackgroundFlush {
  readonly #file: FileHandle
  readonly #path: string
  #gathered = 0
  #running: Promise<void> | undefined
  #fault: unknown

  constructor(file: FileHandle, path: string) {
    this.#file = file
    this.#path = path
  }

  /** Throws what went wrong with an earlier flush: later ones would not tell of it again. */
  written(bytes: number): void {
    if (this.#fault !== undefined) throw fileFault(this.#fault, this.#path)
    this.#gathered += bytes
    if (this.#gathered < flushEveryBytes || this.#running !== undefined) return
    this.#gathered = 0
    this.#running = this.#flush()
  }

  /** Waits for a flush that runs. Throws what went wrong with any. */
  async end(): Promise<void> {
    await this.#running
    if (this.#fault !== undefined) throw fileFault(this.#fault, this.#path)
  }

  async #flush(): Promise<void> {
    try {
      await this.#file.datasync()
    } catch (error) {
      this.#fault = error
    }
    this.#running = undefined
  }
}

/** The file and its entry in the directory are on disk. */
export async function finishFile(file: FileHandle, path: string): Promise<void> {
  try {
    await file.sync()
    await file.close()
    await unlessForeign(syncDirectory(dirname(path)))
  } catch (error) {
    throw fileFault(error, path)
  }
}

export async function removeFile(file: FileHandle, path: string): Promise<void> {
  try {
    await file.close()
    await unlessForeign(rm(path, { force: true }))
  } catch (error) {
    throw fileFault(error, path)
  }
}

async function syncDirectory(path: string): Promise<void> {
  const directory = await open(path, constants.O_RDONLY)
  try {
    await directory.sync()
  } finally {
    await directory.close()
  }
}

/**
 * A volume of a pool lies in a directory that is root's: who made its entry there has written it, and removes it. Where
 * this process makes files it may read and write the directory.
 */
async function unlessForeign(work: Promise<void>): Promise<void> {
  try {
    await work
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code !== 'EACCES' && code !== 'EPERM' && code !== 'EROFS') throw error
  }
}

const codes = {
  EEXIST: 'E_CONFLICT',
  ENOSPC: 'E_CAPACITY',
  EDQUOT: 'E_CAPACITY',
  ENOENT: 'E_NOT_FOUND'
} as const

export function fileFault(error: unknown, path: string): HostletError {
  if (error instanceof HostletError) return error
  const code = String((error as NodeJS.ErrnoException).code ?? 'unknown error')
  const known = Object.entries(codes).find(([name]) => name === code)?.[1]
  const advice =
    code === 'EEXIST'
      ? 'It exists already: choose another name.'
      : 'Check the path, its owner and the free space.'
  return new HostletError(known ?? 'E_UNAVAILABLE', `${path} cannot be written (${code}). ${advice}`, {
    cause: error
  })
}
