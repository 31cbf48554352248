// The tree of the parent snapshot, loaded only where it is looked at, a few nodes at a time.

import { type NodeReference, nodeSlots, type Reference, type TreeNode, treeLevels } from '../format/node.ts'

/** Inner nodes of one level that are kept. The tree is walked from left to right, by two who are not far apart. */
const nodesPerLevelMax = 3

export interface NodeLoader {
  load(reference: NodeReference, level: number, node?: TreeNode): Promise<TreeNode>
}

export class ParentTree {
  /** Level of the root. */
  readonly top: number
  readonly #root: NodeReference | null
  readonly #loader: NodeLoader
  readonly #levels: Map<number, Promise<TreeNode | null>>[] = []

  constructor(options: { root: NodeReference | null; sizeBytes: number; loader: NodeLoader }) {
    this.#root = options.root
    this.#loader = options.loader
    this.top = treeLevels(options.sizeBytes) - 1
  }

  /** All zeros: nothing is ever loaded. */
  get empty(): boolean {
    return this.#root === null
  }

  /** The reference to the node at this place, null for zeros; above the root there is none to a node that is the same. */
  async referenceAt(level: number, index: number): Promise<Reference | null> {
    if (this.#root === null || level > this.top) return null
    if (level === this.top) return index === 0 ? this.#root : null
    const above = await this.#innerNode(level + 1, Math.floor(index / nodeSlots))
    return above?.get(index % nodeSlots) ?? null
  }

  /** The leaf at this place, null for zeros. It is not kept here, and read into what `makeLeaf` gives. */
  async leaf(index: number, makeLeaf?: () => TreeNode): Promise<TreeNode | null> {
    return this.#load(0, index, makeLeaf)
  }

  /** Blocks that these leaves refer to. Loads each of them that is not all zeros. */
  async blocksOfLeaves(first: number, count: number): Promise<number> {
    if (this.empty) return 0
    let blocks = 0
    for (let index = first; index < first + count; index++) blocks += (await this.leaf(index))?.count ?? 0
    return blocks
  }

  async #load(level: number, index: number, makeNode?: () => TreeNode): Promise<TreeNode | null> {
    const reference = await this.referenceAt(level, index)
    return reference === null ? null : this.#loader.load(reference, level, makeNode?.())
  }

  #innerNode(level: number, index: number): Promise<TreeNode | null> {
    const nodes = this.#levels[level] ?? new Map<number, Promise<TreeNode | null>>()
    this.#levels[level] = nodes
    const known = nodes.get(index)
    if (known !== undefined) return known
    const loaded = this.#load(level, index)
    if (nodes.size >= nodesPerLevelMax) nodes.delete(Math.min(...nodes.keys()))
    nodes.set(index, loaded)
    return loaded
  }
}
