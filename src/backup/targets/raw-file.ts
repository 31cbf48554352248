// A disk as a raw file with holes: what is never written takes no room.

import type { DiskTarget } from '../disk.ts'
import { BackgroundFlush, createFile, fileFault, finishFile, removeFile, writeAll } from './new-file.ts'
import { checkRange, checkSize, writesInFlightMax } from './ranges.ts'

/** Makes the file, as long as the disk. Throws E_CONFLICT when it exists. */
export async function createRawFile(path: string, sizeBytes: number): Promise<DiskTarget> {
  checkSize(sizeBytes)
  const file = await createFile(path)
  try {
    await file.truncate(sizeBytes)
  } catch (error) {
    await removeFile(file, path)
    throw fileFault(error, path)
  }
  const flush = new BackgroundFlush(file, path)
  let over = false
  return {
    sizeBytes,
    writesInFlightMax,
    file: {
      descriptor: file.fd,
      path,
      placeOf(offset) {
        checkRange(offset, 0, sizeBytes)
        return offset
      },
      written: (bytes) => flush.written(bytes)
    },
    async write(offset, data, { signal }) {
      signal.throwIfAborted()
      checkRange(offset, data.length, sizeBytes)
      await writeAll(file, path, data, offset)
      flush.written(data.length)
    },
    async finish({ signal }) {
      signal.throwIfAborted()
      await flush.end()
      await finishFile(file, path)
      over = true
    },
    async abort() {
      if (over) return
      over = true
      await flush.end().catch(() => undefined)
      await removeFile(file, path)
    }
  }
}
