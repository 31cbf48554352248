// Writes snapshots for the tests of what reads them: one block after the other, without threads, packs as small as a test wants.

import { randomUUID } from 'node:crypto'
import { blockBytes } from '../../src/backup/disk.ts'
import { deriveVaultKeys, type VaultKeys } from '../../src/backup/format/keys.ts'
import {
  blocksOf,
  encodeNode,
  type NodeReference,
  nodeSlots,
  type Reference,
  sameReference,
  TreeNode,
  treeLevels
} from '../../src/backup/format/node.ts'
import { packName } from '../../src/backup/format/pack.ts'
import { PackBuilder, packBufferBytesMin } from '../../src/backup/format/pack-builder.ts'
import type { ObjectStore } from '../../src/backup/repository/store.ts'
import type { ManifestBody, ManifestDisk } from '../../src/backup/vault/manifest-body.ts'

const { signal } = new AbortController()

/** A disk in memory: blocks by number; what is missing is zeros. */
export interface PlainDisk {
  readonly sizeBytes: number
  readonly blocks: ReadonlyMap<number, Buffer>
}

/** A stored disk, with its references so that the next one can be stored against it. */
export interface StoredDisk extends ManifestDisk {
  readonly references: ReadonlyMap<number, Reference>
  readonly content: PlainDisk
}

export function contentOf({ sizeBytes, blocks }: PlainDisk): Buffer {
  const content = Buffer.alloc(sizeBytes)
  for (const [number, block] of blocks) block.copy(content, number * blockBytes)
  return content
}

export interface PlainWriterOptions {
  readonly store: ObjectStore
  readonly vm: string
  readonly vmKey: Uint8Array
  /** Entries of a pack. */
  readonly entriesMax?: number
}

export class PlainWriter {
  readonly #options: PlainWriterOptions
  readonly #keys: VaultKeys
  #builder: PackBuilder | undefined
  #stored: Promise<void>[] = []

  constructor(options: PlainWriterOptions) {
    this.#options = options
    this.#keys = deriveVaultKeys(options.vmKey)
  }

  async write(disk: PlainDisk, parent?: StoredDisk, role = 'root'): Promise<StoredDisk> {
    const references = new Map<number, Reference>()
    for (const [number, block] of [...disk.blocks].sort(([one], [other]) => one - other)) {
      const padded = Buffer.alloc(blockBytes)
      block.copy(padded)
      const address = this.#keys.addressOf(padded)
      const before = parent?.references.get(number)
      const same = before !== undefined && address.equals(before.address)
      references.set(number, same ? before : { ...this.#append('block', padded), address })
    }
    const root = this.#nodes(references, disk.sizeBytes, parent)
    this.#flush()
    await Promise.all(this.#stored)
    const levels = treeLevels(disk.sizeBytes)
    const allocatedBytes = references.size * blockBytes
    return { role, sizeBytes: disk.sizeBytes, root, levels, allocatedBytes, references, content: disk }
  }

  #nodes(
    blocks: ReadonlyMap<number, Reference>,
    sizeBytes: number,
    parent: StoredDisk | undefined
  ): NodeReference | null {
    // As the real writer does it: a tree over the same blocks in the same places is the tree that is there.
    if (parent !== undefined && parent.sizeBytes === sizeBytes && sameReferences(blocks, parent.references))
      return parent.root
    let below = blocks
    for (let level = 0; level < treeLevels(sizeBytes); level++) {
      const nodes = new Map<number, TreeNode>()
      for (const [number, reference] of below) {
        const index = Math.floor(number / nodeSlots)
        const node = nodes.get(index) ?? new TreeNode(level)
        nodes.set(index, node)
        node.set(number % nodeSlots, reference)
      }
      const level1 = new Map<number, Reference>()
      for (const [index, node] of nodes) level1.set(index, this.storeNode(encodeNode(node)))
      below = level1
    }
    return below.get(0) ?? null
  }

  /** Whatever bytes: for trees that lie. */
  storeNode(encoded: Buffer): NodeReference {
    return { ...this.#append('node', encoded), address: this.#keys.nodeAddressOf(encoded) }
  }

  async end(): Promise<void> {
    this.#flush()
    await Promise.all(this.#stored)
  }

  #append(kind: 'block' | 'node', plain: Buffer): { pack: Buffer; entry: number } {
    const full = this.#builder?.full || (this.#builder?.entries ?? 0) >= (this.#options.entriesMax ?? 64)
    if (full) this.#flush()
    this.#builder ??= new PackBuilder(this.#keys, new Uint8Array(packBufferBytesMin + 64 * 66_000))
    return { pack: this.#builder.id, entry: this.#builder.append(kind, plain, 1) }
  }

  #flush(): void {
    if (this.#builder === undefined) return
    const { content, ...identity } = this.#builder.finish()
    this.#builder = undefined
    this.#stored.push(this.#options.store.put(packName(this.#options.vm, identity), [content], { signal }))
  }
}

function sameReferences(one: ReadonlyMap<number, Reference>, other: ReadonlyMap<number, Reference>): boolean {
  if (one.size !== other.size) return false
  return [...one].every(([number, reference]) => sameReference(reference, other.get(number) ?? null))
}

export interface BodyOptions {
  readonly vm: string
  readonly sequence: number
  readonly disks: readonly ManifestDisk[]
  readonly at?: number
  readonly previous?: string | null
  readonly host?: string
}

/** A body as an agent would write it. */
export function bodyOf({
  vm,
  sequence,
  disks,
  at,
  previous = null,
  host = 'host-1'
}: BodyOptions): ManifestBody {
  const stamp = at ?? Date.now()
  return {
    vm: { uuid: vm, name: 'web-1', specification: { cpus: 2 } },
    host,
    sequence,
    previous,
    kind: previous === null ? 'full' : 'incremental',
    consistency: 'crash',
    at: stamp,
    finishedAt: stamp + 1_000,
    disks: disks.map(({ role, sizeBytes, root, levels, allocatedBytes }) => ({
      role,
      sizeBytes,
      root,
      levels,
      allocatedBytes
    })),
    counts: { readBytes: 0, storedBytes: 0, packs: 0 },
    tool: 'hostlet test'
  }
}

/** A disk of so many blocks in which each number of `fills` gives one block its content; 0 is a block of zeros, left out. */
export function diskOf(fills: readonly number[], sizeBytes = fills.length * blockBytes): PlainDisk {
  const blocks = new Map<number, Buffer>()
  for (const [number, fill] of fills.entries()) {
    if (fill === 0 || number >= blocksOf(sizeBytes)) continue
    const block = Buffer.alloc(Math.min(blockBytes, sizeBytes - number * blockBytes))
    for (let at = 0; at + 4 <= block.length; at += 4)
      block.writeInt32LE(Math.imul(fill, 2_654_435_761) ^ (at * (fill % 7)), at)
    blocks.set(number, block)
  }
  return { sizeBytes, blocks }
}

export const newVm = (): string => randomUUID()
