// One disk of a backup: gathers blocks into batches as its runs say, and builds the tree from what becomes of them.

import { untilAborted } from '../../lib/deadline.ts'
import type { DiskSource } from '../disk.ts'
import { blocksOf, type NodeReference, nodeSlots } from '../format/node.ts'
import { type BatchBlock, type BatchContext, processBatch } from './batch.ts'
import type { BackupEngine } from './engine.ts'
import { LeafJob } from './leaf-job.ts'
import { batchBlocksMax } from './pack-messages.ts'
import { ParentTree } from './parent-tree.ts'
import { type CutOptions, type Piece, piecesOf } from './pieces.ts'
import type { Run } from './runs.ts'
import { SpareLeaves } from './spare-leaves.ts'
import { Stock } from './stock.ts'
import { TreeBuilder, type TreeBuilderOptions } from './tree-builder.ts'

/** Parts of the tree that wait for their turn; a leaf in the making takes about 100 KiB. */
const partsMax = 32
/** Reads in flight, whatever more the source would take. */
const readsInFlightMost = 16

type Part = LeafJob | (Piece & { readonly kind: 'leaves' })

export interface DiskPassOptions {
  readonly engine: BackupEngine
  readonly source: DiskSource
  /** Root of the parent's tree; null where there is none, or none to be compared with. */
  readonly root: NodeReference | null
  readonly parentSizeBytes: number
  onRead(bytes: number): void
}

export class DiskPass {
  readonly #engine: BackupEngine
  readonly #context: BatchContext
  readonly #parent: ParentTree
  readonly #builder: TreeBuilder
  readonly #cut: CutOptions
  readonly #parts: Part[] = []
  readonly #spares = new SpareLeaves()
  #blocksGained = 0
  #job: LeafJob | undefined
  #batch: { readonly buffer: ArrayBuffer; readonly blocks: BatchBlock[] } | undefined

  constructor(options: DiskPassOptions) {
    const { engine, source, root, parentSizeBytes, onRead } = options
    const { sizeBytes } = source
    const { signal, storedNodes: loader, nodes } = engine
    this.#engine = engine
    const reads = Math.max(1, Math.min(source.readsInFlightMax, readsInFlightMost))
    const places = new Stock(new Array<undefined>(reads).fill(undefined), signal)
    this.#context = { engine, source, places, onRead }
    this.#parent = new ParentTree({ root, sizeBytes: parentSizeBytes, loader })
    const store: TreeBuilderOptions['store'] = (node, same) => nodes.store(node, same)
    this.#builder = new TreeBuilder({ sizeBytes, parentSizeBytes, parent: this.#parent, store })
    this.#cut = { blocks: blocksOf(sizeBytes), keepsEnd: blocksOf(parentSizeBytes) <= blocksOf(sizeBytes) }
  }

  /** Blocks that the tree refers to beyond those of the parent's; negative where it refers to fewer. Complete after `run`. */
  get blocksGained(): number {
    return this.#blocksGained
  }

  /** The root of the disk's tree. It is durable, as all below it, once the engine has finished. */
  async run(runs: AsyncIterable<Run>): Promise<NodeReference | null> {
    for await (const run of runs) {
      for (const piece of piecesOf(run, this.#cut)) await this.#take(piece)
      this.#engine.signal.throwIfAborted()
    }
    this.#closeJob()
    this.#flush()
    while (this.#parts.length > 0) await this.#addFirst()
    return this.#builder.finish()
  }

  async #take(piece: Piece): Promise<void> {
    if (piece.kind === 'leaves') {
      this.#closeJob()
      return this.#queue(piece)
    }
    const { first, count, action } = piece
    const job = await this.#jobOf(Math.floor(first / nodeSlots))
    job.mark(first % nodeSlots, count, action)
    if (action === 'read') await this.#gather(job, piece)
  }

  async #gather(job: LeafJob, { first, count }: Run): Promise<void> {
    for (let block = first; block < first + count; block++) {
      this.#batch ??= { buffer: await this.#engine.buffers.take(), blocks: [] }
      this.#batch.blocks.push({ job, slot: block % nodeSlots, block })
      if (this.#batch.blocks.length >= batchBlocksMax) this.#flush()
    }
  }

  #flush(): void {
    const batch = this.#batch
    this.#batch = undefined
    if (batch !== undefined) this.#engine.own(processBatch(batch, this.#context))
  }

  async #jobOf(index: number): Promise<LeafJob> {
    if (this.#job?.index === index) return this.#job
    this.#closeJob()
    const job = new LeafJob(
      index,
      this.#parent.leaf(index, () => this.#spares.take()),
      this.#spares.take()
    )
    this.#job = job
    await this.#queue(job)
    return job
  }

  #closeJob(): void {
    this.#job?.close()
    this.#job = undefined
  }

  /** Queues the next part of the tree, and adds to the tree what is known by then. */
  async #queue(part: Part): Promise<void> {
    this.#parts.push(part)
    while (this.#parts.length > partsMax || this.#firstIsKnown()) await this.#addFirst()
  }

  #firstIsKnown(): boolean {
    const [first] = this.#parts
    return first instanceof LeafJob ? first.complete : first !== undefined
  }

  async #addFirst(): Promise<void> {
    const part = this.#parts[0]
    if (part instanceof LeafJob) {
      // Blocks of this leaf may be in the batch that is not full yet.
      if (!part.complete) this.#flush()
      await untilAborted(part.whenComplete, this.#engine.signal)
      const leaf = await part.leaf()
      const before = await part.parent
      this.#blocksGained += leaf.count - (before?.count ?? 0)
      await this.#builder.addLeaf(part.index, leaf)
      for (const spare of [leaf, before]) if (spare !== null) this.#spares.give(spare)
    } else if (part !== undefined) await this.#addLeaves(part)
    this.#parts.shift()
  }

  async #addLeaves({ first, count, action }: Piece & { readonly kind: 'leaves' }): Promise<void> {
    if (action === 'zero') this.#blocksGained -= await this.#parent.blocksOfLeaves(first, count)
    await this.#builder.addLeaves(first, count, action)
  }
}
