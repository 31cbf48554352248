// Leaves that are used again: a backup makes two for each 64 MiB, and memory outside of the heap is collected late.

import { TreeNode } from '../format/node.ts'

const sparesMax = 64

export class SpareLeaves {
  readonly #spares: TreeNode[] = []

  /** An empty leaf. */
  take(): TreeNode {
    return this.#spares.pop() ?? new TreeNode(0)
  }

  /** Nobody may look at it any more, nor at a reference that it gave. */
  give(leaf: TreeNode): void {
    if (this.#spares.length >= sparesMax) return
    leaf.clear()
    this.#spares.push(leaf)
  }
}
