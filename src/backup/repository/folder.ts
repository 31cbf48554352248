// Folders of a directory repository, opened one segment at a time, so that no symbolic link leads out of its root.

import { constants } from 'node:fs'
import { type FileHandle, mkdir, open } from 'node:fs/promises'
import { privateDirectoryMode } from '../../lib/private-file.ts'

const { O_DIRECTORY, O_NOFOLLOW, O_NONBLOCK, O_RDONLY } = constants

/**
 * An open directory. Whoever shares the repository may swap a folder for a link at any moment; names are therefore
 * resolved from the descriptor (through procfs, which stands in for openat), never again from the root's path.
 */
export class Folder {
  readonly #handle: FileHandle

  constructor(handle: FileHandle) {
    this.#handle = handle
  }

  /** Opens the root: the one place where links are followed, since the operator named it. */
  static async openRoot(path: string): Promise<Folder> {
    return new Folder(await open(path, O_RDONLY | O_DIRECTORY))
  }

  /** The folder at the segments below this one; with `create` missing ones are made, durably. */
  async open(segments: readonly string[], { create = false } = {}): Promise<Folder> {
    let current = await this.#child('.')
    for (const segment of segments) {
      await using parent = current
      current = create ? await parent.#ensureChild(segment) : await parent.#child(segment)
    }
    return current
  }

  /** A path of the entry for system calls that follow no link in its last part. */
  path(name: string): string {
    return `/proc/self/fd/${this.#handle.fd}/${name}`
  }

  async openFile(name: string): Promise<FileHandle> {
    // Without O_NONBLOCK a pipe that somebody put there would block a thread for ever.
    return await open(this.path(name), O_RDONLY | O_NOFOLLOW | O_NONBLOCK)
  }

  /** Makes what was renamed, linked or removed here durable. */
  async sync(): Promise<void> {
    await this.#handle.sync()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#handle.close()
  }

  async #child(segment: string): Promise<Folder> {
    return new Folder(await open(this.path(segment), O_RDONLY | O_DIRECTORY | O_NOFOLLOW))
  }

  async #ensureChild(segment: string): Promise<Folder> {
    try {
      return await this.#child(segment)
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error
    }
    await mkdir(this.path(segment), { mode: privateDirectoryMode }).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== 'EEXIST') throw error
    })
    // Also where another made it first: nobody knows whether that one has come to this yet.
    await this.sync()
    return await this.#child(segment)
  }
}
