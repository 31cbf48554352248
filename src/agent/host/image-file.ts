// Opens image files of this host: only regular files below the directories that the configuration allows.

import { constants } from 'node:fs'
import { type FileHandle, open, readlink, realpath } from 'node:fs/promises'
import { sep } from 'node:path'
import { fileURLToPath } from 'node:url'
import { HostletError } from '../../errors.ts'
import type { ImageContent } from './image-source.ts'

/** Throws E_BAD_REQUEST, E_AUTH outside of the allowed directories, E_NOT_FOUND. */
export async function openImageFile(url: URL, allowed: readonly string[]): Promise<ImageContent> {
  const path = pathOf(url)
  const handle = await openAllowed(path, allowed)
  try {
    const { size } = await regular(handle, path)
    // What was opened, not what the name leads to now: a name that was swapped meanwhile leads nowhere else.
    await requireAllowed(await readlink(`/proc/self/fd/${handle.fd}`), allowed, path)
    return { stream: handle.createReadStream(), lengthBytes: size }
  } catch (error) {
    await handle.close()
    throw error
  }
}

/** For an image that is in the pool already: its file may be gone, and the place must be allowed all the same. */
export async function requireAllowedFile(url: URL, allowed: readonly string[]): Promise<void> {
  const path = pathOf(url)
  await requireAllowed(await realpath(path).catch(() => path), allowed, path)
}

function pathOf(url: URL): string {
  try {
    if (url.host === '' && url.search === '' && url.hash === '') return fileURLToPath(url)
  } catch {
    // Encoded slashes and the like.
  }
  throw new HostletError(
    'E_BAD_REQUEST',
    `image ${url.href} is not a path on this host: write file:///directory/file`
  )
}

/** Not blocking: a pipe under the name would hold the agent up before anybody sees that it is no file. */
async function openAllowed(path: string, allowed: readonly string[]): Promise<FileHandle> {
  try {
    const real = await realpath(path)
    await requireAllowed(real, allowed, path)
    return await open(real, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK)
  } catch (cause) {
    if (cause instanceof HostletError) throw cause
    const code = (cause as NodeJS.ErrnoException).code ?? 'unknown'
    // Outside of what is allowed nothing is told about what exists.
    await requireAllowed(path, allowed, path)
    if (code === 'ENOENT' || code === 'ENOTDIR')
      throw new HostletError('E_NOT_FOUND', `image file ${path} does not exist on this host`, { cause })
    throw new HostletError('E_BAD_REQUEST', `image file ${path} cannot be read on this host (${code})`, {
      cause
    })
  }
}

async function regular(handle: FileHandle, path: string) {
  const facts = await handle.stat()
  if (facts.isFile()) return facts
  throw new HostletError('E_BAD_REQUEST', `image ${path} is not a regular file`)
}

async function requireAllowed(real: string, allowed: readonly string[], path: string): Promise<void> {
  for (const directory of allowed) {
    const root = await realpath(directory).catch(() => undefined)
    if (root !== undefined && real.startsWith(root.endsWith(sep) ? root : root + sep)) return
  }
  throw new HostletError(
    'E_AUTH',
    `image file ${path} is not below a directory that this host allows. Put it there, or add its directory to images.allowFileUrls of the agent's configuration.`
  )
}
