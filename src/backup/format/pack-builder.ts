// Builds packs in memory, front to back: each entry number, and with it each nonce, is used once.

import { randomBytes } from 'node:crypto'
import { HostletError } from '../../errors.ts'
import { compressed } from './compression.ts'
import { type EntryKind, entryFlags, sealEntry, sealedBytesMax } from './entry.ts'
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

  /** No further entry may be appended. */
  get full(): boolean {
    const room = this.#buffer.length - packEndBytesMax - this.#end
    return this.#entries.length >= packEntriesMax || room < sealedBytesMax
  }

  /** Compresses where that helps, seals, and returns the number of the entry. */
  append(kind: EntryKind, plain: Uint8Array, compressionLevel: number): number {
    if (this.full || this.#finished) throw new HostletError('E_INTERNAL', 'a full pack was written to')
    const shorter = compressed(plain, compressionLevel)
    const flags = (kind === 'node' ? entryFlags.node : 0) | (shorter === undefined ? 0 : entryFlags.zstd)
    const number = this.#entries.length
    const entry = { key: this.#key, number, flags, content: shorter ?? plain }
    const length = sealEntry(entry, this.#buffer, this.#end)
    this.#entries.push({ number, offset: this.#end, length, flags })
    this.#end += length
    return number
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
}

/** An entry as it lies in an older generation. */
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
