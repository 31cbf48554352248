// Builds packs in memory, front to back: each entry number, and with it each nonce, is used once.

import { randomBytes } from 'node:crypto'
import { HostletError } from '../../errors.ts'
import { type EntryKind, sealedBytesMax } from './entry.ts'
import { packIdBytes, type VaultKeys } from './keys.ts'
import {
  encodePackEnd,
  encodePackHeader,
  firstGeneration,
  type PackEntry,
  type PackIdentity,
  packEndBytesMax,
  packEntriesMax,
  packHeaderBytes
} from './pack.ts'
import { sealPlain } from './seal.ts'

/** Smallest buffer that a pack can be built in: one entry and the longest end. */
export const packBufferBytesMin = packHeaderBytes + sealedBytesMax + packEndBytesMax

export interface PackContent extends PackIdentity {
  readonly content: Uint8Array
  readonly entries: number
}

export class PackBuilder {
  /** 128 fresh random bits: the salt of a key that no other pack, attempt or host has. */
  readonly id: Buffer = randomBytes(packIdBytes)
  readonly #keys: VaultKeys
  readonly #key: Buffer
  readonly #buffer: Uint8Array
  readonly #entries: PackEntry[] = []
  #end = packHeaderBytes
  #nextNumber = 0
  #finished = false

  /** The pack is made in `buffer`, which is its length at most; see `packBufferBytesMin`. */
  constructor(keys: VaultKeys, buffer: Uint8Array) {
    if (buffer.length < packBufferBytesMin)
      throw new HostletError('E_INTERNAL', `${buffer.length} bytes are too few to build a pack in`)
    this.#keys = keys
    this.#key = keys.packKey(this.id)
    this.#buffer = buffer
  }

  get entries(): number {
    return this.#entries.length
  }

  /** Bytes that further sealed entries may take. */
  get roomBytes(): number {
    return this.#buffer.length - packEndBytesMax - this.#end
  }

  /** No further entry may be appended, whatever its length. */
  get full(): boolean {
    return this.#entries.length >= packEntriesMax || this.roomBytes < sealedBytesMax
  }

  /** Compresses where that helps, seals, and returns the number of the entry. */
  append(kind: EntryKind, plain: Uint8Array, compressionLevel: number): number {
    if (this.full) throw new HostletError('E_INTERNAL', 'a full pack was written to')
    const number = this.#nextNumber
    const entry = { key: this.#key, number, kind, plain }
    this.#add(number, sealPlain(entry, compressionLevel, this.#buffer, this.#end))
    return number
  }

  /** Appends an entry that was sealed elsewhere with this pack's key. Numbers ascend. */
  appendSealed({ number, flags, sealed }: SealedEntry): void {
    if (this.#entries.length >= packEntriesMax || this.roomBytes < sealed.length)
      throw new HostletError('E_INTERNAL', 'a full pack was written to')
    if (number < this.#nextNumber)
      throw new HostletError('E_INTERNAL', `entry ${number} of a pack comes too late`)
    this.#buffer.set(sealed, this.#end)
    this.#add(number, { flags, length: sealed.length })
  }

  /** The whole pack, as a view of the buffer. Nothing can be appended afterwards. */
  finish(): PackContent {
    if (this.#finished) throw new HostletError('E_INTERNAL', 'a pack was finished twice')
    this.#finished = true
    const identity = { id: this.id, generation: firstGeneration }
    const end = encodePackEnd(this.#keys, identity, this.#entries)
    this.#buffer.set(encodePackHeader(identity))
    this.#buffer.set(end, this.#end)
    const content = this.#buffer.subarray(0, this.#end + end.length)
    return { ...identity, content, entries: this.#entries.length }
  }

  #add(number: number, { flags, length }: { flags: number; length: number }): void {
    if (this.#finished) throw new HostletError('E_INTERNAL', 'a finished pack was written to')
    this.#entries.push({ number, offset: this.#end, length, flags })
    this.#end += length
    this.#nextNumber = number + 1
  }
}

/** An entry as it lies in a pack. */
export interface SealedEntry {
  readonly number: number
  readonly flags: number
  readonly sealed: Uint8Array
}

/** A further generation of a pack: entries, by ascending number, keep their numbers and ciphertext, so that references stay valid. */
export function assemblePack(
  keys: VaultKeys,
  identity: PackIdentity,
  kept: readonly SealedEntry[]
): Uint8Array[] {
  const entries: PackEntry[] = []
  let offset = packHeaderBytes
  for (const { number, flags, sealed } of kept) {
    entries.push({ number, offset, length: sealed.length, flags })
    offset += sealed.length
  }
  const end = encodePackEnd(keys, identity, entries)
  return [encodePackHeader(identity), ...kept.map(({ sealed }) => sealed), end]
}
