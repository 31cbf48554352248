// One sealed entry of a pack: a block or a tree node, compressed where that helps, encrypted and bound to its place.

import { createCipheriv, createDecipheriv, type KeyObject } from 'node:crypto'
import { constants, zstdDecompressSync } from 'node:zlib'
import { blockBytes } from '../disk.ts'
import { corrupt, type Place } from './corrupt.ts'

export const formatVersion = 1
export const tagBytes = 16
export const entryFlags = { zstd: 1, node: 2 } as const
const knownFlags = entryFlags.zstd | entryFlags.node

export type EntryKind = 'block' | 'node'

/** Longest plain entry of either kind, in bytes. */
export const plainBytesMax = blockBytes
/** Longest sealed entry: what does not shrink is stored as it is. */
export const sealedBytesMax = plainBytesMax + tagBytes

/** The entry number, big-endian, in 12 bytes. A pack's key is used for that pack only, so that no nonce repeats under it. */
export function entryNonce(number: number): Buffer {
  const nonce = Buffer.alloc(12)
  nonce.writeUInt32BE(number, 8)
  return nonce
}

function associatedData(flags: number): Uint8Array {
  return Uint8Array.of(formatVersion, flags)
}

export interface EntryToSeal {
  readonly key: Uint8Array
  readonly number: number
  readonly flags: number
  /** What is encrypted: already compressed where the flags say so. */
  readonly content: Uint8Array
}

/** Writes ciphertext and tag into `target` at `offset`; returns their length. */
export function sealEntry(entry: EntryToSeal, target: Uint8Array, offset: number): number {
  const cipher = createCipheriv('aes-256-gcm', entry.key, entryNonce(entry.number))
  cipher.setAAD(associatedData(entry.flags))
  const sealed = cipher.update(entry.content)
  cipher.final()
  target.set(sealed, offset)
  const { length } = sealed
  target.set(cipher.getAuthTag(), offset + length)
  giveBack(sealed)
  return length + tagBytes
}

export interface EntryToOpen {
  /** A key object where many entries of one pack are opened: it need not be made anew for each. */
  readonly key: Uint8Array | KeyObject
  readonly number: number
  readonly flags: number
  readonly sealed: Uint8Array
}

export function flagsAreKnown(flags: number): boolean {
  return (flags & ~knownFlags) === 0
}

export function kindOf(flags: number): EntryKind {
  return flags & entryFlags.node ? 'node' : 'block'
}

/** The plain block or node. Throws E_CORRUPT when it does not authenticate, is of the other kind or not as long as its kind is. */
export function openEntry(entry: EntryToOpen, kind: EntryKind, object: string): Buffer {
  const { flags, number } = entry
  const place = { object, entry: number }
  if (!flagsAreKnown(flags) || kindOf(flags) !== kind) throw corrupt(place, `is no ${kind} (flags ${flags})`)
  const content = decrypt(entry, place)
  const plain = flags & entryFlags.zstd ? decompress(content, place) : content
  if (plain.length > plainBytesMax || (kind === 'block' && plain.length !== blockBytes))
    throw corrupt(place, `a ${kind} of ${plain.length} bytes`)
  return plain
}

/** Throws E_CORRUPT when the entry is not what was sealed; cheaper than to open it. */
export function authenticateEntry(entry: EntryToOpen, object: string): void {
  decrypt(entry, { object, entry: entry.number })
}

function decrypt({ key, number, flags, sealed }: EntryToOpen, place: Place): Buffer {
  if (sealed.length < tagBytes || sealed.length > sealedBytesMax)
    throw corrupt(place, `${sealed.length} bytes are no sealed entry`)
  const end = sealed.length - tagBytes
  const decipher = createDecipheriv('aes-256-gcm', key, entryNonce(number), { authTagLength: tagBytes })
  decipher.setAAD(associatedData(flags))
  decipher.setAuthTag(sealed.subarray(end))
  const content = decipher.update(sealed.subarray(0, end))
  try {
    decipher.final()
  } catch (error) {
    throw corrupt(place, 'does not authenticate', error)
  }
  return content
}

const decompressOptions = {
  maxOutputLength: plainBytesMax,
  // One more than is wanted: an output that fills its piece costs another piece and another call to see that it has ended.
  chunkSize: plainBytesMax + 1,
  params: { [constants.ZSTD_d_windowLogMax]: 17 }
}

function decompress(content: Uint8Array, place: Place): Buffer {
  try {
    return zstdDecompressSync(content, decompressOptions)
  } catch (error) {
    throw corrupt(place, 'does not decompress', error)
  } finally {
    giveBack(content)
  }
}

/**
 * Gives the memory of bytes that nobody uses any more back at once, where it is all theirs: left to the collector, that of
 * many blocks would pile up, and each would meet fresh pages instead of those of the one before.
 */
export function giveBack({ buffer, byteLength }: Uint8Array): void {
  // A decompressed block is one byte shorter than its buffer; what Node cuts from its pool is at most half of it.
  const whole = byteLength >= buffer.byteLength - 1
  if (whole && buffer instanceof ArrayBuffer && !buffer.detached) buffer.transfer(0)
}
