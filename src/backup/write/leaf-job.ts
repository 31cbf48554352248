// A leaf in the making: what becomes of each of its blocks, told in any order, and the leaf once all is known.

import { nodeSlots, type TreeNode } from '../format/node.ts'
import type { Row } from './pack-messages.ts'
import { type BlockAction, blockActions } from './runs.ts'

export class LeafJob {
  readonly index: number
  /** The leaf at this place in the parent, null for zeros. */
  readonly parent: Promise<TreeNode | null>
  readonly #leaf: TreeNode
  readonly #actions = new Uint8Array(nodeSlots).fill(blockActions.indexOf('zero'))
  readonly #whenComplete = Promise.withResolvers<void>()
  /** Blocks that were not told yet, and one more until the job is closed. */
  #outstanding = 1

  /** The leaf is made in `leaf`, which is empty. */
  constructor(index: number, parent: Promise<TreeNode | null>, leaf: TreeNode) {
    this.index = index
    this.#leaf = leaf
    this.parent = parent
    // Whoever needs the parent's leaf awaits it. Where the backup fails first nobody does.
    parent.catch(() => undefined)
  }

  get complete(): boolean {
    return this.#outstanding === 0
  }

  /** Resolves when the job is closed and all its blocks are told. Never rejects. */
  get whenComplete(): Promise<void> {
    return this.#whenComplete.promise
  }

  mark(slot: number, count: number, action: BlockAction): void {
    this.#actions.fill(blockActions.indexOf(action), slot, slot + count)
    if (action === 'read') this.#outstanding += count
  }

  /** No more blocks will be marked. */
  close(): void {
    this.#told()
  }

  /** What became of a block that was marked to be read. */
  tell(slot: number, row: Row): void {
    if (row.outcome === 'known' || row.outcome === 'sealed') this.#leaf.set(slot, row.reference)
    if (row.outcome === 'same') this.#actions[slot] = blockActions.indexOf('keep')
    this.#told()
  }

  /** The leaf, when complete. */
  async leaf(): Promise<TreeNode> {
    const parent = await this.parent
    const keep = blockActions.indexOf('keep')
    this.#actions.forEach((action, slot) => {
      if (action === keep) this.#leaf.set(slot, parent?.get(slot) ?? null)
    })
    return this.#leaf
  }

  #told(): void {
    this.#outstanding--
    if (this.#outstanding === 0) this.#whenComplete.resolve()
  }
}
