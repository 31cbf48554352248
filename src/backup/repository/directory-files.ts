// Single files of a directory repository: written and flushed, linked only where nothing is, read in parts.

import { constants } from 'node:fs'
import { type FileHandle, link, lstat, open } from 'node:fs/promises'
import { HostletError } from '../../errors.ts'
import { privateFileMode } from '../../lib/private-file.ts'
import { foreignEntry, hasSystemCode } from './directory-errors.ts'
import { checkStoredSize, objectExists } from './object-bounds.ts'

const { O_CREAT, O_EXCL, O_NOFOLLOW, O_WRONLY } = constants

interface Place {
  readonly name: string
  readonly description: string
}

/** Makes a file and returns when its content is on disk. */
export async function writeFlushed(
  path: string,
  content: readonly Uint8Array[],
  signal: AbortSignal
): Promise<void> {
  await using file = await open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, privateFileMode)
  await file.writeFile(content, { signal })
  await file.sync()
}

/** Gives a file a second name, if nothing has it. Throws E_CONFLICT when something has, E_UNSUPPORTED without hard links. */
export async function linkWhole(from: string, to: string, { name, description }: Place): Promise<void> {
  try {
    await link(from, to)
  } catch (error) {
    if (hasSystemCode(error, 'EPERM', 'ENOSYS', 'EOPNOTSUPP', 'ENOTSUP', 'EMLINK'))
      throw new HostletError('E_UNSUPPORTED', `the file system of ${description} has no hard links`, {
        cause: error
      })
    if (!hasSystemCode(error, 'EEXIST')) throw error
    // A network file system that lost its own answer asks again, and finds what it has just made.
    if ((await lstat(from)).nlink < 2) throw objectExists(name, description, error)
  }
}

/** The part of a file that `part` picks by its size, shorter where the file was cut meanwhile. */
export async function readPart(
  file: FileHandle,
  part: (sizeBytes: number) => { offset: number; length: number },
  { name, description, signal }: Place & { signal: AbortSignal }
): Promise<{ content: Uint8Array; sizeBytes: number }> {
  const stats = await file.stat()
  if (!stats.isFile()) throw foreignEntry(name, description)
  checkStoredSize(name, stats.size)
  const { offset, length } = part(stats.size)
  const content = Buffer.allocUnsafeSlow(length)
  let done = 0
  while (done < length) {
    signal.throwIfAborted()
    const { bytesRead } = await file.read(content, done, length - done, offset + done)
    if (bytesRead === 0) break
    done += bytesRead
  }
  return { content: content.subarray(0, done), sizeBytes: stats.size }
}
