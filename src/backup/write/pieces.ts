// Runs of blocks cut into what the tree is made of: whole leaves that need no look, and parts of leaves that do.

import { nodeSlots } from '../format/node.ts'
import type { Run } from './runs.ts'

export type Piece =
  | {
      readonly kind: 'leaves'
      readonly first: number
      readonly count: number
      readonly action: 'keep' | 'zero'
    }
  /** Blocks within one leaf. */
  | ({ readonly kind: 'part' } & Run)

export interface CutOptions {
  /** Blocks of the disk: the last leaf may be shorter than others. */
  readonly blocks: number
  /** The parent's last leaf has nothing beyond these blocks, so that it may be kept as a whole. */
  readonly keepsEnd: boolean
}

export function* piecesOf(run: Run, { blocks, keepsEnd }: CutOptions): Generator<Piece> {
  const { action } = run
  const end = run.first + run.count
  const wholeToEnd = end === blocks && (action === 'zero' || keepsEnd)
  const endLeaf = wholeToEnd ? Math.ceil(end / nodeSlots) : Math.floor(end / nodeSlots)
  for (let at = run.first; at < end; ) {
    const leaf = Math.floor(at / nodeSlots)
    if (action !== 'read' && at % nodeSlots === 0 && endLeaf > leaf) {
      yield { kind: 'leaves', first: leaf, count: endLeaf - leaf, action }
      at = Math.min(endLeaf * nodeSlots, end)
    } else {
      const stop = Math.min((leaf + 1) * nodeSlots, end)
      yield { kind: 'part', first: at, count: stop - at, action }
      at = stop
    }
  }
}
