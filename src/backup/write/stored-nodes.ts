// Reads single tree nodes from a repository: those of the parent that a backup cannot keep as they are.

import { HostletError } from '../../errors.ts'
import type { Wait } from '../disk.ts'
import { corrupt } from '../format/corrupt.ts'
import { openEntry } from '../format/entry.ts'
import type { VaultKeys } from '../format/keys.ts'
import { decodeNode, type NodeReference, type TreeNode } from '../format/node.ts'
import {
  findEntry,
  firstGeneration,
  openPackEnd,
  type PackEntry,
  type PackIdentity,
  packEndBytes,
  packName,
  packTrailerBytes,
  parsePackName
} from '../format/pack.ts'
import type { ObjectStore } from '../repository/store.ts'

/** First guess of the length of a pack's end: a thousand entries. */
const endGuessBytes = 16 * 1024
/** Tables that are kept. */
const tablesMax = 32
/** Packs may be compacted under another name while they are looked at. */
const attemptsMax = 3

interface OpenedPack {
  readonly name: string
  readonly entries: readonly PackEntry[]
}

export class StoredNodes {
  readonly #store: ObjectStore
  readonly #vm: string
  readonly #keys: VaultKeys
  readonly #wait: Wait
  readonly #packs = new Map<string, Promise<OpenedPack>>()

  constructor(options: { store: ObjectStore; vm: string; keys: VaultKeys; signal: AbortSignal }) {
    this.#store = options.store
    this.#vm = options.vm
    this.#keys = options.keys
    this.#wait = { signal: options.signal }
  }

  /** Throws E_CORRUPT when the node is missing, damaged, or another than the reference says. Reads into `node` where given. */
  async load(reference: NodeReference, level: number, node?: TreeNode): Promise<TreeNode> {
    for (let attempt = 1; ; attempt++) {
      const pack = await this.#open(reference.pack)
      try {
        return await this.#loadFrom(pack, reference, level, node)
      } catch (error) {
        if (!isNotFound(error) || attempt >= attemptsMax) throw error
        this.#packs.delete(hex(reference.pack))
      }
    }
  }

  async #loadFrom(
    pack: OpenedPack,
    reference: NodeReference,
    level: number,
    node?: TreeNode
  ): Promise<TreeNode> {
    const place = { object: pack.name, entry: reference.entry }
    const entry = findEntry(pack.entries, reference.entry)
    if (entry === undefined) throw corrupt(place, 'the entry is missing')
    const range = { offset: entry.offset, length: entry.length }
    const sealed = await this.#store.get(pack.name, { ...this.#wait, range })
    if (sealed.length !== entry.length) throw corrupt(place, 'is cut off')
    const plain = openEntry({ ...entry, key: this.#keys.packKey(reference.pack), sealed }, 'node', pack.name)
    if (!this.#keys.nodeAddressOf(plain).equals(reference.address)) throw corrupt(place, 'is another node')
    return decodeNode(plain, level, place, node)
  }

  #open(id: Uint8Array): Promise<OpenedPack> {
    const key = hex(id)
    const known = this.#packs.get(key)
    if (known !== undefined) return known
    const opened = this.#find(id)
    if (this.#packs.size >= tablesMax) this.#packs.delete(this.#packs.keys().next().value ?? '')
    this.#packs.set(key, opened)
    return opened
  }

  /** Most packs were never compacted, so that the first name is right and nothing need be listed. */
  async #find(id: Uint8Array): Promise<OpenedPack> {
    for (let attempt = 1; ; attempt++) {
      const generation = attempt === 1 ? firstGeneration : await this.#newestGeneration(id)
      try {
        return await this.#readTable({ id, generation })
      } catch (error) {
        if (!isNotFound(error) || attempt >= attemptsMax) throw error
      }
    }
  }

  async #newestGeneration(id: Uint8Array): Promise<number> {
    const first = packName(this.#vm, { id, generation: firstGeneration })
    let newest = 0
    for await (const { name } of this.#store.list(first.slice(0, first.lastIndexOf('.') + 1), this.#wait))
      newest = Math.max(newest, parsePackName(this.#vm, name)?.generation ?? 0)
    if (newest === 0) throw corrupt({ object: first }, 'the pack is missing')
    return newest
  }

  async #readTable(identity: PackIdentity): Promise<OpenedPack> {
    const name = packName(this.#vm, identity)
    const guess = await this.#store.getEnd(name, endGuessBytes, this.#wait)
    const { sizeBytes: packBytes } = guess
    const endBytes = packEndBytes(guess.content.subarray(-packTrailerBytes), packBytes, { object: name })
    const lastBytes =
      endBytes <= guess.content.length
        ? guess.content
        : (await this.#store.getEnd(name, endBytes, this.#wait)).content
    return { name, entries: openPackEnd(this.#keys, identity, { lastBytes, packBytes }, name) }
  }
}

function hex(id: Uint8Array): string {
  return Buffer.from(id).toString('hex')
}

function isNotFound(error: unknown): boolean {
  return error instanceof HostletError && error.code === 'E_NOT_FOUND'
}
