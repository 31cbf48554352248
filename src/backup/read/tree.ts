// The tree of a disk as it is read: leaves in the order of the disk, the next ones fetched while one is worked on.

import { HostletError } from '../../errors.ts'
import { blockBytes, type Wait } from '../disk.ts'
import { corrupt } from '../format/corrupt.ts'
import { openEntry } from '../format/entry.ts'
import type { VaultKeys } from '../format/keys.ts'
import {
  blocksOf,
  blocksPerSlot,
  decodeNode,
  type NodeReference,
  nodeSlots,
  type TreeNode,
  treeLevels
} from '../format/node.ts'
import { findEntry } from '../format/pack.ts'
import { StoredFault } from './fault.ts'
import type { PackReader } from './packs.ts'

/** Nodes that are fetched ahead on each level. */
const nodesAheadMax = 2

export interface DiskTree {
  readonly sizeBytes: number
  readonly root: NodeReference | null
  readonly levels: number
}

/** A node that could not be had: everything below it is lost. */
export interface LostNode {
  readonly reference: NodeReference
  /** Which part of the disk, in blocks. */
  readonly firstBlock: number
  readonly blocks: number
  readonly fault: StoredFault
}

export interface TreeVisit {
  /** Called for every node before its children. Return false to leave them out. */
  readonly enter?: (reference: NodeReference, node: TreeNode) => boolean
  /** Asked before a node is fetched. Return false to leave it and everything below it out. */
  readonly wanted?: (reference: NodeReference) => boolean
  /** Throw to stop at the first. */
  readonly lost: (lost: LostNode) => void
}

export interface Leaf {
  readonly node: TreeNode
  readonly firstBlock: number
}

export class TreeReader {
  readonly #packs: PackReader
  readonly #keys: VaultKeys
  readonly #wait: Wait

  constructor(packs: PackReader, keys: VaultKeys, wait: Wait) {
    this.#packs = packs
    this.#keys = keys
    this.#wait = wait
  }

  /** Throws E_CORRUPT when the levels are not those of the size; what is wrong with nodes goes to `visit.lost`. */
  async *leaves(disk: DiskTree, visit: TreeVisit): AsyncGenerator<Leaf> {
    if (disk.levels !== treeLevels(disk.sizeBytes))
      throw new HostletError(
        'E_CORRUPT',
        `a tree of ${disk.levels} levels for a disk of ${disk.sizeBytes} bytes`
      )
    if (disk.root === null || visit.wanted?.(disk.root) === false) return
    yield* this.#below(await this.#part(disk.root, disk.levels - 1, 0, disk), visit, disk)
  }

  /** One node, checked against its reference. Throws StoredFault. */
  async node(reference: NodeReference, level: number): Promise<TreeNode> {
    try {
      return await this.#node(reference, level)
    } catch (error) {
      if (!(error instanceof StoredFault) || error.kind !== 'missing-object') throw error
      // Compacted since its table was read: look for the newer generation once.
      this.#packs.forget(reference.pack)
      return this.#node(reference, level)
    }
  }

  async *#below(part: Part, visit: TreeVisit, disk: DiskTree): AsyncGenerator<Leaf> {
    const { reference, firstBlock, blocks, found } = part
    if (found instanceof StoredFault) return visit.lost({ reference, firstBlock, blocks, fault: found })
    const fault = beyond(found, firstBlock, disk)
    if (fault)
      return visit.lost({ reference, firstBlock, blocks, fault: damagedNode(this.#packs, reference, fault) })
    if (visit.enter?.(reference, found) === false) return
    if (found.level === 0) return yield { node: found, firstBlock }
    for await (const child of this.#children(found, firstBlock, visit, disk))
      yield* this.#below(child, visit, disk)
  }

  async *#children(
    node: TreeNode,
    firstBlock: number,
    visit: TreeVisit,
    disk: DiskTree
  ): AsyncGenerator<Part> {
    const ahead: Promise<Part>[] = []
    try {
      for (const [slot, reference] of node.references()) {
        if (visit.wanted?.(reference) === false) continue
        const next = this.#part(
          reference,
          node.level - 1,
          firstBlock + slot * blocksPerSlot(node.level),
          disk
        )
        // Awaited when its turn comes; until then a failure is nobody's.
        next.catch(() => undefined)
        ahead.push(next)
        const ready = ahead.length > nodesAheadMax ? ahead.shift() : undefined
        if (ready !== undefined) yield await ready
      }
      for (let ready = ahead.shift(); ready !== undefined; ready = ahead.shift()) yield await ready
    } finally {
      await Promise.allSettled(ahead)
    }
  }

  async #part(reference: NodeReference, level: number, firstBlock: number, disk: DiskTree): Promise<Part> {
    const blocks = Math.min(blocksPerSlot(level) * nodeSlots, blocksOf(disk.sizeBytes) - firstBlock)
    try {
      return { reference, firstBlock, blocks, found: await this.node(reference, level) }
    } catch (error) {
      if (!(error instanceof StoredFault)) throw error
      return { reference, firstBlock, blocks, found: error }
    }
  }

  async #node(reference: NodeReference, level: number): Promise<TreeNode> {
    const pack = await this.#packs.open(reference.pack, this.#wait)
    const entry = findEntry(pack.entries, reference.entry)
    const place = { object: pack.name, entry: reference.entry }
    if (entry === undefined)
      throw new StoredFault('missing-entry', pack.name, corrupt(place, 'is not in its table'))
    const sealed = await this.#packs.read(pack, entry.offset, entry.length, this.#wait)
    const plain = faulty('damaged-entry', pack.name, () =>
      openEntry(
        { key: this.#keys.packKey(pack.id), number: entry.number, flags: entry.flags, sealed },
        'node',
        pack.name
      )
    )
    if (!this.#keys.nodeAddressOf(plain).equals(reference.address))
      throw new StoredFault('wrong-address', pack.name, corrupt(place, 'is another node than the tree means'))
    return faulty('damaged-node', pack.name, () => decodeNode(plain, level, place))
  }
}

interface Part {
  readonly reference: NodeReference
  readonly firstBlock: number
  readonly blocks: number
  readonly found: TreeNode | StoredFault
}

/** What a node says of blocks past the end of the disk, if it does. */
function beyond(node: TreeNode, firstBlock: number, { sizeBytes }: DiskTree): string | undefined {
  const slots = Math.ceil((blocksOf(sizeBytes) - firstBlock) / blocksPerSlot(node.level))
  for (const [slot] of node.references())
    if (slot >= slots)
      return `a node refers to a block at ${(firstBlock + slot * blocksPerSlot(node.level)) * blockBytes}, past the end of the disk`
  return undefined
}

function damagedNode(packs: PackReader, { pack, entry }: NodeReference, what: string): StoredFault {
  const object = packs.nameOf(pack)
  return new StoredFault('damaged-node', object, corrupt({ object, entry }, what))
}

function faulty<Value>(kind: 'damaged-entry' | 'damaged-node', object: string, read: () => Value): Value {
  try {
    return read()
  } catch (error) {
    if (error instanceof HostletError && error.code === 'E_CORRUPT')
      throw new StoredFault(kind, object, error)
    throw error
  }
}
