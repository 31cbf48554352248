// Packs as they are read: the table of each fetched once and kept for a while, ranges of entries, newer generations found.

import { HostletError } from '../../errors.ts'
import type { Wait } from '../disk.ts'
import { corrupt } from '../format/corrupt.ts'
import type { VaultKeys } from '../format/keys.ts'
import {
  firstGeneration,
  openPackEnd,
  type PackEntry,
  type PackIdentity,
  packEndBytes,
  packName,
  packsPrefix,
  packTrailerBytes,
  parsePackName
} from '../format/pack.ts'
import type { ObjectStore } from '../repository/store.ts'
import { StoredFault } from './fault.ts'

/** Enough for the table of a pack of 1,000 entries, in one request. */
const firstEndBytes = 16 * 1024
/** Rows of tables that are kept, over all packs: some 100 bytes each. */
const rowsKeptMax = 131_072
const trailerMagicBytes = 8
/** A trailer with fewer of its last eight bytes right was cut off rather than damaged. */
const magicBytesRightMin = 6
const trailerMagic = Buffer.from('hostletT')

export interface OpenPack extends PackIdentity {
  readonly name: string
  readonly sizeBytes: number
  readonly entries: readonly PackEntry[]
}

export class PackReader {
  readonly #store: ObjectStore
  readonly #vm: string
  readonly #keys: VaultKeys
  /** By the pack's id in hex, the least recently used first. */
  readonly #open = new Map<string, Promise<OpenPack>>()
  readonly #rows = new Map<string, number>()
  #rowsKept = 0

  constructor(store: ObjectStore, vm: string, keys: VaultKeys) {
    this.#store = store
    this.#vm = vm
    this.#keys = keys
  }

  /** Name of the pack's first generation, for messages about one that is not there. */
  nameOf(id: Uint8Array): string {
    return packName(this.#vm, { id, generation: firstGeneration })
  }

  /** The pack's newest generation and its table. Throws StoredFault when it is missing or spoilt, and what the store throws. */
  async open(id: Uint8Array, wait: Wait): Promise<OpenPack> {
    const key = Buffer.from(id).toString('hex')
    const known = this.#open.get(key)
    const opening = known ?? this.#find(Buffer.from(id), wait)
    this.#open.delete(key)
    this.#open.set(key, opening)
    try {
      const pack = await opening
      if (known === undefined) this.#keep(key, pack.entries.length)
      return pack
    } catch (error) {
      this.#forget(key)
      throw error
    }
  }

  /** A range of the pack; throws StoredFault where it ends too early or has gone, with its newer generation, meanwhile. */
  async read(pack: OpenPack, offset: number, length: number, wait: Wait): Promise<Uint8Array> {
    const bytes = await this.#get(pack, offset, length, wait)
    if (bytes.length === length) return bytes
    const error = corrupt({ object: pack.name }, `ends ${length - bytes.length} bytes too early`)
    throw new StoredFault('truncated-object', pack.name, error)
  }

  /** Forgets a pack whose generation has gone, so that the next look finds the newer one. */
  forget(id: Uint8Array): void {
    this.#forget(Buffer.from(id).toString('hex'))
  }

  async #get(pack: OpenPack, offset: number, length: number, wait: Wait): Promise<Uint8Array> {
    try {
      return await this.#store.get(pack.name, { signal: wait.signal, range: { offset, length } })
    } catch (error) {
      throw storedFault(error, pack.name)
    }
  }

  async #find(id: Buffer, wait: Wait): Promise<OpenPack> {
    // Nearly every pack is of the first generation: no list is asked for while that is so.
    try {
      return await this.load({ id, generation: firstGeneration }, wait)
    } catch (error) {
      if (!(error instanceof StoredFault) || error.kind !== 'missing-object') throw error
    }
    const newest = await this.#newest(id, wait)
    const name = this.nameOf(id)
    if (newest !== undefined) return this.load(newest, wait)
    throw new StoredFault('missing-object', name, missing(name))
  }

  async #newest(id: Buffer, { signal }: Wait): Promise<PackIdentity | undefined> {
    const prefix = `${packsPrefix(this.#vm)}${id.toString('hex')}.`
    let newest: PackIdentity | undefined
    for await (const { name } of this.#store.list(prefix, { signal })) {
      const identity = parsePackName(this.#vm, name)
      if (identity !== undefined && identity.generation > (newest?.generation ?? 0)) newest = identity
    }
    return newest
  }

  /** One generation and no other, and nothing of it is kept. Throws as `open` does. */
  async load(identity: PackIdentity, { signal }: Wait): Promise<OpenPack> {
    const name = packName(this.#vm, identity)
    try {
      let end = await this.#store.getEnd(name, firstEndBytes, { signal })
      checkEnding(end.content, name)
      const endBytes = packEndBytes(end.content, end.sizeBytes, { object: name })
      if (endBytes > end.content.length) end = await this.#store.getEnd(name, endBytes, { signal })
      const { content: lastBytes, sizeBytes } = end
      const entries = openPackEnd(this.#keys, identity, { lastBytes, packBytes: sizeBytes }, name)
      const { id, generation } = identity
      return { id, generation, name, sizeBytes, entries }
    } catch (error) {
      throw storedFault(error, name)
    }
  }

  #keep(key: string, rows: number): void {
    if (!this.#open.has(key) || this.#rows.has(key)) return
    this.#rows.set(key, rows)
    this.#rowsKept += rows
    for (const oldest of this.#open.keys()) {
      if (this.#rowsKept <= rowsKeptMax) break
      if (oldest !== key) this.#forget(oldest)
    }
  }

  #forget(key: string): void {
    this.#open.delete(key)
    this.#rowsKept -= this.#rows.get(key) ?? 0
    this.#rows.delete(key)
  }
}

/** Throws StoredFault when the object does not end as a pack, so that one that was cut off is told from a flipped bit. */
function checkEnding(lastBytes: Uint8Array, name: string): void {
  const magic = lastBytes.subarray(-trailerMagicBytes)
  const right = trailerMagic.filter((byte, index) => magic[index] === byte).length
  if (lastBytes.length >= packTrailerBytes && right >= magicBytesRightMin) return
  const error = corrupt({ object: name }, 'does not end as a pack does: it was cut off')
  throw new StoredFault('truncated-object', name, error)
}

function storedFault(error: unknown, name: string): unknown {
  if (!(error instanceof HostletError)) return error
  if (error.code === 'E_NOT_FOUND') return new StoredFault('missing-object', name, missing(name))
  if (error.code === 'E_CORRUPT') return new StoredFault('damaged-object', name, error)
  return error
}

function missing(name: string): HostletError {
  return new HostletError('E_CORRUPT', `${name} is missing. The repository is damaged there.`, {
    details: { object: name }
  })
}
