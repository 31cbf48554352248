// Puts packs together from what the worker threads seal: one is filled at a time, however many threads there are.

import { sealedBytesMax } from '../format/entry.ts'
import type { VaultKeys } from '../format/keys.ts'
import { entryNumberMax, packEntriesMax } from '../format/pack.ts'
import { PackBuilder } from '../format/pack-builder.ts'
import { readRow } from './pack-messages.ts'
import type { Stock } from './stock.ts'
import type { Uploads } from './uploads.ts'

/** Numbers of a pack that a batch may use, each for one entry and never again. */
export interface Assignment {
  readonly pack: OpenPack
  readonly firstNumber: number
  readonly blocks: number
}

interface Delivery {
  readonly assignment: Assignment
  readonly sealed: Uint8Array
  readonly rows: Uint8Array
  /** The sealed bytes were copied. */
  release(): void
}

export interface OpenPack {
  readonly builder: PackBuilder
  readonly buffer: ArrayBuffer
  nextNumber: number
  /** Blocks that were assigned and are not in the builder yet. */
  outstanding: number
  /** Number that the next delivery in order begins with. */
  nextDelivered: number
  /** Deliveries that came before their turn, by first number: as many as batches are in flight at most. */
  readonly early: Map<number, Delivery>
  /** Nothing more is assigned. */
  closed: boolean
}

export class PackAssembler {
  readonly #keys: VaultKeys
  readonly #uploads: Uploads
  readonly #buffers: Stock<ArrayBuffer>
  #open: OpenPack | undefined
  /** The assignment before: they are made one after the other, since a pack may have to wait for a buffer. */
  #previous: Promise<unknown> = Promise.resolve()

  /** Packs are built in these buffers, which come back to the stock when they are stored. */
  constructor(keys: VaultKeys, uploads: Uploads, buffers: Stock<ArrayBuffer>) {
    this.#keys = keys
    this.#uploads = uploads
    this.#buffers = buffers
  }

  /** Waits for a buffer when the open pack could not take all of these blocks. */
  assign(blocks: number): Promise<Assignment> {
    const assigned = this.#previous.then(() => this.#assign(blocks))
    this.#previous = assigned.catch(() => undefined)
    return assigned
  }

  /** Takes what a thread made of a batch, and appends it when its turn comes: numbers ascend in a pack. */
  deliver(delivery: Delivery): void {
    const { pack } = delivery.assignment
    pack.early.set(delivery.assignment.firstNumber, delivery)
    for (
      let next = pack.early.get(pack.nextDelivered);
      next !== undefined;
      next = pack.early.get(pack.nextDelivered)
    ) {
      pack.early.delete(pack.nextDelivered)
      this.#append(next)
    }
    this.#finishIfComplete(pack)
  }

  /** Sends the open pack. All that was assigned was delivered by then. */
  finish(): void {
    this.#close()
  }

  async #assign(blocks: number): Promise<Assignment> {
    if (this.#open !== undefined && !hasRoom(this.#open, blocks)) this.#close()
    this.#open ??= this.#start(await this.#buffers.take())
    const pack = this.#open
    const firstNumber = pack.nextNumber
    pack.nextNumber += blocks
    pack.outstanding += blocks
    return { pack, firstNumber, blocks }
  }

  #start(buffer: ArrayBuffer): OpenPack {
    const builder = new PackBuilder(this.#keys, new Uint8Array(buffer))
    return {
      builder,
      buffer,
      nextNumber: 0,
      outstanding: 0,
      nextDelivered: 0,
      early: new Map(),
      closed: false
    }
  }

  #append({ assignment, sealed, rows, release }: Delivery): void {
    const { pack, blocks } = assignment
    let at = 0
    for (let index = 0; index < blocks; index++) {
      const row = readRow(rows, index)
      if (row.outcome !== 'sealed') continue
      const { flags, length, reference } = row
      pack.builder.appendSealed({ number: reference.entry, flags, sealed: sealed.subarray(at, at + length) })
      at += length
    }
    pack.nextDelivered += blocks
    pack.outstanding -= blocks
    release()
  }

  #close(): void {
    const pack = this.#open
    this.#open = undefined
    if (pack === undefined) return
    pack.closed = true
    this.#finishIfComplete(pack)
  }

  #finishIfComplete({ closed, outstanding, builder, buffer }: OpenPack): void {
    if (!closed || outstanding > 0) return
    const giveBack = () => this.#buffers.give(buffer)
    if (builder.entries === 0) giveBack()
    else this.#uploads.send(builder.finish(), giveBack)
  }
}

/** Even if nothing of what is outstanding shrinks. */
function hasRoom({ builder, nextNumber, outstanding }: OpenPack, blocks: number): boolean {
  const entries = outstanding + blocks
  return (
    entries * sealedBytesMax <= builder.roomBytes &&
    builder.entries + entries <= packEntriesMax &&
    nextNumber + blocks <= entryNumberMax
  )
}
