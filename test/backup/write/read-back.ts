// Reads a disk back from a repository in the plainest way: for the tests of the writer.

import assert from 'node:assert/strict'
import { blockBytes } from '../../../src/backup/disk.ts'
import { openEntry } from '../../../src/backup/format/entry.ts'
import type { VaultKeys } from '../../../src/backup/format/keys.ts'
import {
  blocksOf,
  blocksPerSlot,
  decodeNode,
  nodeSlots,
  type Reference
} from '../../../src/backup/format/node.ts'
import {
  checkPackHeader,
  findEntry,
  openPackEnd,
  type PackEntry,
  packName
} from '../../../src/backup/format/pack.ts'
import type { MemoryStore } from '../../support/memory-store.ts'

export interface StoredDisk {
  readonly root: Reference | null
  readonly levels: number
  readonly sizeBytes: number
}

export class ReadBack {
  readonly #store: MemoryStore
  readonly #vm: string
  readonly #keys: VaultKeys
  readonly #packs = new Map<string, { content: Uint8Array; entries: readonly PackEntry[] }>()

  constructor(store: MemoryStore, vm: string, keys: VaultKeys) {
    this.#store = store
    this.#vm = vm
    this.#keys = keys
  }

  disk({ root, levels, sizeBytes }: StoredDisk): Buffer {
    const bytes = Buffer.alloc(blocksOf(sizeBytes) * blockBytes)
    this.#fill(bytes, root, levels - 1, 0)
    assert.ok(bytes.subarray(sizeBytes).equals(Buffer.alloc(bytes.length - sizeBytes)), 'padded with zeros')
    return bytes.subarray(0, sizeBytes)
  }

  /** The blocks that are stored, by their number in the disk. */
  *blocksOf(disk: StoredDisk, level = disk.levels - 1, first = 0): Generator<[block: number, plain: Buffer]> {
    if (disk.root === null) return
    for (const [slot, below] of this.#node(disk.root, level).references()) {
      const block = first + slot * blocksPerSlot(level)
      assert.ok(block * blockBytes < disk.sizeBytes, 'nothing beyond the end of the disk')
      if (level === 0) yield [block, this.#entry(below, 'block')]
      else yield* this.blocksOf({ ...disk, root: below }, level - 1, block)
    }
  }

  /** Every entry that can be reached from the root, as "pack/entry". */
  entriesOf({ root, levels }: StoredDisk, level = levels - 1): string[] {
    if (root === null) return []
    const below = [...this.#node(root, level).references()].flatMap(([, reference]) =>
      level === 0 ? [idOf(reference)] : this.entriesOf({ root: reference, levels, sizeBytes: 0 }, level - 1)
    )
    return [idOf(root), ...below]
  }

  #fill(bytes: Buffer, reference: Reference | null, level: number, first: number): void {
    if (reference === null) return
    assert.ok(first * blockBytes < bytes.length, 'no node beyond the end of the disk')
    for (const [slot, below] of this.#node(reference, level).references()) {
      const block = first + slot * blocksPerSlot(level)
      if (level > 0) {
        this.#fill(bytes, below, level - 1, block)
        continue
      }
      assert.ok(
        block * blockBytes < bytes.length,
        `no block beyond the end of the disk (${block % nodeSlots})`
      )
      const plain = this.#entry(below, 'block')
      assert.ok(this.#keys.addressOf(plain).equals(below.address))
      assert.ok(!plain.equals(Buffer.alloc(blockBytes)), 'zeros are never stored')
      plain.copy(bytes, block * blockBytes)
    }
  }

  #node(reference: Reference, level: number) {
    const plain = this.#entry(reference, 'node')
    assert.ok(this.#keys.nodeAddressOf(plain).equals(reference.address))
    return decodeNode(plain, level, { object: 'node' })
  }

  #entry(reference: Reference, kind: 'block' | 'node'): Buffer {
    const name = packName(this.#vm, { id: reference.pack, generation: 1 })
    const { content, entries } = this.#pack(name, reference.pack)
    const entry = findEntry(entries, reference.entry)
    assert.ok(entry !== undefined)
    const sealed = content.subarray(entry.offset, entry.offset + entry.length)
    return openEntry({ ...entry, key: this.#keys.packKey(reference.pack), sealed }, kind, name)
  }

  #pack(name: string, id: Uint8Array) {
    const known = this.#packs.get(name)
    if (known !== undefined) return known
    const content = this.#store.objects.get(name)?.content
    assert.ok(content !== undefined, `${name} is stored`)
    const identity = { id, generation: 1 }
    checkPackHeader(content, identity, { object: name })
    const entries = openPackEnd(this.#keys, identity, { lastBytes: content, packBytes: content.length }, name)
    const pack = { content, entries }
    this.#packs.set(name, pack)
    return pack
  }
}

function idOf({ pack, entry }: Reference): string {
  return `${Buffer.from(pack).toString('hex')}/${entry}`
}
