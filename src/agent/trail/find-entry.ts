// One entry out of the trail's files, read in pieces: a file may be large, and everything else goes on meanwhile.

import { type FileHandle, open } from 'node:fs/promises'
import { type ChainEntry, lineBytesMax, openLine } from '../../lib/chain.ts'
import { listTrail } from './segments.ts'

const pieceBytes = 256 * 1024
const lineEnd = 0x0a

/** Undefined where no line of the trail is that entry, by its own hash. Throws what keeps the file from being read. */
export async function findEntry(directory: string, seq: number): Promise<ChainEntry | undefined> {
  const segment = listTrail(directory).segments.findLast(({ first }) => first <= seq)
  if (segment === undefined) return undefined
  await using handle = await open(segment.path, 'r')
  // Every line begins with its sequence, see `sealEntry`.
  const start = Buffer.from(`{"seq":${seq},`)
  const piece = Buffer.alloc(pieceBytes)
  for (let offset = 0; ; ) {
    const { bytesRead } = await handle.read(piece, 0, pieceBytes, offset)
    for (let at = 0; at >= 0 && at < bytesRead; ) {
      at = piece.subarray(0, bytesRead).indexOf(start, at)
      if (at < 0) break
      const entry = await entryAt(handle, offset + at)
      if (entry?.seq === seq) return entry
      at++
    }
    if (bytesRead < pieceBytes) return undefined
    // What lies across the end of a piece is whole in the next.
    offset += bytesRead - start.length
  }
}

async function entryAt(handle: FileHandle, offset: number): Promise<ChainEntry | undefined> {
  const { bytesRead, buffer } = await handle.read(Buffer.alloc(lineBytesMax + 1), 0, lineBytesMax + 1, offset)
  const end = buffer.indexOf(lineEnd)
  return end < 0 || end >= bytesRead ? undefined : openLine(buffer.subarray(0, end))
}
