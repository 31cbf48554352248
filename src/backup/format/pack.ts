// The layout of a pack: header, sealed entries one after the other, sealed table, trailer. Parsing believes nothing it reads.

import { createCipheriv, createDecipheriv, randomBytes } from 'node:crypto'
import { corrupt, type Place } from './corrupt.ts'
import { flagsAreKnown, formatVersion, sealedBytesMax, tagBytes } from './entry.ts'
import { packIdBytes, saltBytes, type VaultKeys } from './keys.ts'

/** Longest pack, in bytes. Those that are written are about half as long. */
export const packBytesMax = 32 * 1024 * 1024
export const packEntriesMax = 16_384
/** Numbers ascend within a pack but may be left out, so that they are no measure of how many entries there are. */
export const entryNumberMax = 0xffff_ffff
/** magic 8, version u16, zero u16, generation u32, pack id 16; all numbers are big-endian. */
export const packHeaderBytes = 32
/** salt of the table's key 16, length of the sealed table u32, version u16, zero u16, magic 8. */
export const packTrailerBytes = 32
/** entry number u32, offset u32, length u32, flags u8; a count u32 stands before the rows. */
const tableRowBytes = 13
const tableHeadBytes = 4
/** Longest end of a pack: with so many bytes of it the table is there in any case. */
export const packEndBytesMax = tableHeadBytes + packEntriesMax * tableRowBytes + tagBytes + packTrailerBytes
/** Generations grow by one at each compaction. */
export const firstGeneration = 1
const generationMax = 0xffff_ffff

const headerMagic = Buffer.from('hostletP')
const trailerMagic = Buffer.from('hostletT')
/** The key of a table is used once, so its nonce may be constant. */
const tableNonce = Buffer.alloc(12)

export interface PackIdentity {
  readonly id: Uint8Array
  readonly generation: number
}

/** Where an entry lies in its pack; `length` is that of ciphertext and tag. */
export interface PackEntry {
  readonly number: number
  readonly offset: number
  readonly length: number
  readonly flags: number
}

export function packsPrefix(vm: string): string {
  return `vms/${vm}/packs/`
}

export function packName(vm: string, { id, generation }: PackIdentity): string {
  return `${packsPrefix(vm)}${Buffer.from(id).toString('hex')}.${generation}`
}

/** What a pack's name says, or undefined for the name of something else. */
export function parsePackName(vm: string, name: string): PackIdentity | undefined {
  const prefix = packsPrefix(vm)
  const match = /^([0-9a-f]{32})\.([1-9][0-9]{0,9})$/.exec(
    name.startsWith(prefix) ? name.slice(prefix.length) : ''
  )
  const [, id, generation] = match ?? []
  if (id === undefined || Number(generation) > generationMax) return undefined
  return { id: Buffer.from(id, 'hex'), generation: Number(generation) }
}

export function encodePackHeader({ id, generation }: PackIdentity): Buffer {
  const header = Buffer.alloc(packHeaderBytes)
  headerMagic.copy(header)
  header.writeUInt16BE(formatVersion, 8)
  header.writeUInt32BE(generation, 12)
  header.set(id, packHeaderBytes - packIdBytes)
  return header
}

/** Throws E_CORRUPT unless these are the first bytes of the pack that its name says. */
export function checkPackHeader(bytes: Uint8Array, identity: PackIdentity, place: Place): void {
  const header = encodePackHeader(identity)
  if (bytes.length < packHeaderBytes || !header.equals(bytes.subarray(0, packHeaderBytes)))
    throw corrupt(place, 'does not begin as the pack of this name')
}

/** The sealed table and the trailer that end a pack with these entries. */
export function encodePackEnd(
  keys: VaultKeys,
  identity: PackIdentity,
  entries: readonly PackEntry[]
): Buffer {
  const salt = randomBytes(saltBytes)
  const cipher = createCipheriv('aes-256-gcm', keys.tableKey(salt), tableNonce)
  cipher.setAAD(encodePackHeader(identity))
  const sealed = Buffer.concat([cipher.update(encodeTable(entries)), cipher.final(), cipher.getAuthTag()])
  const trailer = Buffer.alloc(packTrailerBytes)
  trailer.set(salt)
  trailer.writeUInt32BE(sealed.length, saltBytes)
  trailer.writeUInt16BE(formatVersion, saltBytes + 4)
  trailer.set(trailerMagic, packTrailerBytes - trailerMagic.length)
  return Buffer.concat([sealed, trailer])
}

function encodeTable(entries: readonly PackEntry[]): Buffer {
  const table = Buffer.alloc(tableHeadBytes + entries.length * tableRowBytes)
  let at = table.writeUInt32BE(entries.length)
  for (const { number, offset, length, flags } of entries) {
    at = table.writeUInt32BE(number, at)
    at = table.writeUInt32BE(offset, at)
    at = table.writeUInt32BE(length, at)
    at = table.writeUInt8(flags, at)
  }
  return table
}

/**
 * How many bytes at the end of a pack are table and trailer, from its last bytes (at least the trailer's 32).
 * Throws E_CORRUPT for anything that no pack of that size ends in.
 */
export function packEndBytes(lastBytes: Uint8Array, packBytes: number, place: Place): number {
  const { tableBytes } = parseTrailer(lastBytes, packBytes, place)
  return tableBytes + packTrailerBytes
}

function parseTrailer(lastBytes: Uint8Array, packBytes: number, place: Place) {
  if (lastBytes.length < packTrailerBytes || packBytes < packHeaderBytes + packTrailerBytes)
    throw corrupt(place, `${packBytes} bytes are too short for a pack`)
  if (packBytes > packBytesMax) throw corrupt(place, `${packBytes} bytes are too long for a pack`)
  const trailer = Buffer.from(lastBytes).subarray(-packTrailerBytes)
  const magic = trailer.subarray(packTrailerBytes - trailerMagic.length)
  if (!magic.equals(trailerMagic)) throw corrupt(place, 'does not end as a pack does')
  if (trailer.readUInt16BE(saltBytes + 4) !== formatVersion || trailer.readUInt16BE(saltBytes + 6) !== 0)
    throw corrupt(place, 'is of an unknown version')
  const tableBytes = trailer.readUInt32BE(saltBytes)
  const room = Math.min(packBytes - packHeaderBytes, packEndBytesMax) - packTrailerBytes
  if (tableBytes < tableHeadBytes + tagBytes || tableBytes > room)
    throw corrupt(place, `a table of ${tableBytes} bytes does not fit`)
  return { salt: trailer.subarray(0, saltBytes), tableBytes }
}

export interface PackEnd {
  /** The end of the pack, of at least `packEndBytes`. */
  readonly lastBytes: Uint8Array
  /** Length of the whole pack. */
  readonly packBytes: number
}

/**
 * The entries of a pack, by ascending number, covering everything between header and table without a gap.
 * Throws E_CORRUPT when the table does not authenticate for this pack and generation or says nonsense.
 */
export function openPackEnd(
  keys: VaultKeys,
  identity: PackIdentity,
  end: PackEnd,
  object: string
): PackEntry[] {
  const { lastBytes, packBytes } = end
  const { salt, tableBytes } = parseTrailer(lastBytes, packBytes, { object })
  const endBytes = tableBytes + packTrailerBytes
  if (lastBytes.length < endBytes) throw corrupt({ object }, 'its table is cut off')
  const sealed = lastBytes.subarray(lastBytes.length - endBytes, lastBytes.length - packTrailerBytes)
  const table = openTable(keys.tableKey(salt), encodePackHeader(identity), sealed, object)
  return parseTable(table, packBytes - endBytes, object)
}

function openTable(key: Uint8Array, header: Uint8Array, sealed: Uint8Array, object: string): Buffer {
  const end = sealed.length - tagBytes
  const decipher = createDecipheriv('aes-256-gcm', key, tableNonce, { authTagLength: tagBytes })
  decipher.setAAD(header)
  decipher.setAuthTag(sealed.subarray(end))
  const table = decipher.update(sealed.subarray(0, end))
  try {
    decipher.final()
  } catch (error) {
    throw corrupt({ object }, 'its table does not authenticate', error)
  }
  return table
}

/** The rows of a plain table; the entries end where the table begins, at `end`. */
export function parseTable(table: Buffer, end: number, object: string): PackEntry[] {
  const count = table.length < tableHeadBytes ? -1 : table.readUInt32BE(0)
  if (count > packEntriesMax || table.length !== tableHeadBytes + count * tableRowBytes)
    throw corrupt({ object }, `a table of ${table.length} bytes for ${count} entries`)
  const entries: PackEntry[] = []
  let next = { number: 0, offset: packHeaderBytes }
  for (let row = 0; row < count; row++) {
    const entry = readRow(table, tableHeadBytes + row * tableRowBytes)
    checkRow(entry, next, object)
    entries.push(entry)
    next = { number: entry.number + 1, offset: entry.offset + entry.length }
  }
  if (next.offset !== end)
    throw corrupt({ object }, `its entries end at ${next.offset}, its table begins at ${end}`)
  return entries
}

function readRow(table: Buffer, at: number): PackEntry {
  return {
    number: table.readUInt32BE(at),
    offset: table.readUInt32BE(at + 4),
    length: table.readUInt32BE(at + 8),
    flags: table.readUInt8(at + 12)
  }
}

function checkRow(entry: PackEntry, next: { number: number; offset: number }, object: string): void {
  const place = { object, entry: entry.number }
  if (entry.number < next.number) throw corrupt(place, 'has a number out of order')
  if (entry.offset !== next.offset) throw corrupt(place, `lies at ${entry.offset} instead of ${next.offset}`)
  if (entry.length < tagBytes || entry.length > sealedBytesMax)
    throw corrupt(place, `${entry.length} bytes are no sealed entry`)
  if (!flagsAreKnown(entry.flags)) throw corrupt(place, `has unknown flags ${entry.flags}`)
}

/** An entry of a parsed table by its number, or undefined. */
export function findEntry(entries: readonly PackEntry[], number: number): PackEntry | undefined {
  let low = 0
  let high = entries.length
  while (low < high) {
    const middle = (low + high) >>> 1
    if ((entries[middle]?.number ?? 0) < number) low = middle + 1
    else high = middle
  }
  const found = entries[low]
  return found?.number === number ? found : undefined
}
