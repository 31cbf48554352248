// Files of the trail on a real disk.

import { type FileHandle, open } from 'node:fs/promises'
import { join } from 'node:path'
import { privateFileMode } from '../../lib/private-file.ts'
import type { TrailFile, TrailFiles } from './writer.ts'

export function trailFiles(directory: string): TrailFiles {
  return {
    open: async (name) => {
      const handle = await open(join(directory, name), 'a', privateFileMode)
      try {
        await syncDirectory(directory)
      } catch (error) {
        await handle.close()
        throw error
      }
      return fileOf(handle)
    }
  }
}

/** Names in it are on disk when it resolves. */
export async function syncDirectory(directory: string): Promise<void> {
  await using handle = await open(directory, 'r')
  await handle.sync()
}

function fileOf(handle: FileHandle): TrailFile {
  return {
    append: async (bytes) => {
      // A disk that is nearly full takes a part, and fails with the rest.
      for (let written = 0; written < bytes.length; )
        written += (await handle.write(bytes, written)).bytesWritten
    },
    sync: () => handle.datasync(),
    truncate: (bytes) => handle.truncate(bytes),
    close: () => handle.close()
  }
}
