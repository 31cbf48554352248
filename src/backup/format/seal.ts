// From a plain block or node to the sealed entry of a pack: compressed where that helps, then encrypted.

import { compressed, discard } from './compression.ts'
import { type EntryKind, entryFlags, sealEntry } from './entry.ts'

export interface PlainEntry {
  /** The pack's key. */
  readonly key: Uint8Array
  /** Used once in its pack: it is the nonce. */
  readonly number: number
  readonly kind: EntryKind
  readonly plain: Uint8Array
}

/** Level at which nothing is compressed. */
export const noCompression = 0

/** Writes the sealed entry into `target` at `offset`, which may overlap `plain`. */
export function sealPlain(
  { key, number, kind, plain }: PlainEntry,
  compressionLevel: number,
  target: Uint8Array,
  offset: number
): { flags: number; length: number } {
  const shorter = compressionLevel === noCompression ? undefined : compressed(plain, compressionLevel)
  const flags = (kind === 'node' ? entryFlags.node : 0) | (shorter === undefined ? 0 : entryFlags.zstd)
  const length = sealEntry({ key, number, flags, content: shorter ?? plain }, target, offset)
  if (shorter !== undefined) discard(shorter)
  return { flags, length }
}
