// Single nodes of a parent's tree: those that a backup cannot keep as they are.

import type { VaultKeys } from '../format/keys.ts'
import type { NodeReference, TreeNode } from '../format/node.ts'
import { StoredFault } from '../read/fault.ts'
import { PackReader } from '../read/packs.ts'
import { TreeReader } from '../read/tree.ts'
import type { ObjectStore } from '../repository/store.ts'
import type { NodeLoader } from './parent-tree.ts'

export interface StoredNodesOptions {
  readonly store: ObjectStore
  readonly vm: string
  readonly keys: VaultKeys
  readonly signal: AbortSignal
}

export class StoredNodes implements NodeLoader {
  readonly #tree: TreeReader

  constructor({ store, vm, keys, signal }: StoredNodesOptions) {
    this.#tree = new TreeReader(new PackReader(store, vm, keys), keys, { signal })
  }

  /** Throws E_CORRUPT when the node is missing, damaged, or another than the reference says, and what the store throws. */
  async load(reference: NodeReference, level: number): Promise<TreeNode> {
    try {
      return await this.#tree.node(reference, level)
    } catch (error) {
      throw error instanceof StoredFault ? error.error : error
    }
  }
}
