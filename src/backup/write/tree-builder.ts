// Builds the tree of a disk from left to right. One node a level is open; what did not change below keeps the parent's reference.

import {
  blocksOf,
  blocksPerSlot,
  type NodeReference,
  nodeSlots,
  TreeNode,
  treeLevels
} from '../format/node.ts'
import type { ParentTree } from './parent-tree.ts'

export interface TreeBuilderOptions {
  readonly sizeBytes: number
  readonly parentSizeBytes: number
  readonly parent: ParentTree
  /** Stores a node unless it is the one that `same` refers to. */
  store(node: TreeNode, same: NodeReference | null): Promise<NodeReference>
}

interface OpenNode {
  readonly index: number
  readonly node: TreeNode
}

export class TreeBuilder {
  readonly #options: TreeBuilderOptions
  readonly #top: number
  readonly #leaves: number
  /** The parent's tree may have blocks beyond the end of this disk: no node that reaches beyond it may be kept. */
  readonly #cut: boolean
  /** By level; that of level 0 is the caller's. */
  readonly #open: (OpenNode | undefined)[] = []
  #root: NodeReference | null = null

  constructor(options: TreeBuilderOptions) {
    this.#options = options
    const blocks = blocksOf(options.sizeBytes)
    this.#top = treeLevels(options.sizeBytes) - 1
    this.#leaves = Math.ceil(blocks / nodeSlots)
    this.#cut = blocksOf(options.parentSizeBytes) > blocks
  }

  /** The next leaf, with the references it has now. */
  async addLeaf(index: number, leaf: TreeNode): Promise<void> {
    await this.#place(0, index, await this.#storeNode(leaf, index))
  }

  /** The next leaves, as they are in the parent or all zeros. As many as possible are taken in one reference. */
  async addLeaves(first: number, count: number, action: 'keep' | 'zero'): Promise<void> {
    const end = first + count
    for (let at = first; at < end; ) {
      const level = this.#levelOf(at, end, action)
      const index = at / blocksPerSlot(level)
      const reference = action === 'zero' ? null : await this.#options.parent.referenceAt(level, index)
      await this.#place(level, index, reference)
      at += blocksPerSlot(level)
    }
  }

  /** The root, when all leaves were added: null for a disk of zeros. */
  async finish(): Promise<NodeReference | null> {
    for (let level = 1; level <= this.#top; level++) await this.#close(level)
    return this.#root
  }

  /** Level of the largest node that begins at this leaf and has nothing but leaves before `end` in it. */
  #levelOf(leaf: number, end: number, action: 'keep' | 'zero'): number {
    const { parent } = this.#options
    const top = action === 'zero' || parent.empty ? this.#top : Math.min(this.#top, parent.top)
    const toEnd = end === this.#leaves && !(action === 'keep' && this.#cut)
    let level = 0
    while (level < top) {
      const leaves = blocksPerSlot(level + 1)
      if (leaf % leaves !== 0 || (leaf + leaves > end && !toEnd)) break
      level++
    }
    return level
  }

  /** Sets the reference to a node in the one above it. Whatever is open below is complete by then, being further left. */
  async #place(level: number, index: number, reference: NodeReference | null): Promise<void> {
    for (let below = 1; below <= level; below++) await this.#close(below)
    if (level === this.#top) {
      this.#root = reference
      return
    }
    const above = Math.floor(index / nodeSlots)
    if (this.#open[level + 1]?.index !== above) await this.#close(level + 1)
    const open = this.#open[level + 1] ?? { index: above, node: new TreeNode(level + 1) }
    this.#open[level + 1] = open
    open.node.set(index % nodeSlots, reference)
  }

  async #close(level: number): Promise<void> {
    const open = this.#open[level]
    if (open === undefined) return
    this.#open[level] = undefined
    await this.#place(level, open.index, await this.#storeNode(open.node, open.index))
  }

  async #storeNode(node: TreeNode, index: number): Promise<NodeReference | null> {
    if (node.count === 0) return null
    return this.#options.store(node, await this.#options.parent.referenceAt(node.level, index))
  }
}
