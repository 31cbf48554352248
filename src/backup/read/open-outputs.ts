// Where a thread puts the blocks that it has opened: into one piece of memory for the reply, or straight into the target's file.

import { writevSync } from 'node:fs'
import { blockBytes } from '../disk.ts'
import { giveBack } from '../format/entry.ts'
import { fileFault } from '../targets/new-file.ts'
import { type FileOutput, placeNumbers } from './open-task.ts'

/** The block is the output's from then on, its memory included. */
export interface BlockOutput {
  put(row: number, block: Uint8Array): void
  end(): void
}

export const noOutput: BlockOutput = { put: (_row, block) => giveBack(block), end: () => undefined }

export class ReplyOutput implements BlockOutput {
  readonly plain: Uint8Array<ArrayBuffer>

  constructor(rows: number) {
    this.plain = new Uint8Array(rows * blockBytes)
  }

  put(row: number, block: Uint8Array): void {
    this.plain.set(block, row * blockBytes)
    giveBack(block)
  }

  end(): void {}
}

/** Blocks that go into the file by one call, at most: what a thread holds of plain bytes. */
const blocksPerWriteMax = 16

/** Neighbours in the file are written by one call, without being copied together first. */
export class FileWriter implements BlockOutput {
  readonly #file: FileOutput
  /** Of `places`. */
  #next = 0
  #gathered: Uint8Array[] = []
  #gatheredBytes = 0
  #position = 0

  constructor(file: FileOutput) {
    this.#file = file
  }

  put(row: number, block: Uint8Array): void {
    const places = this.#placesOf(row)
    const [only] = places
    if (only !== undefined && places.length === 1) this.#gather(only, block)
    else {
      for (const { position, bytes } of places) this.#write([block.subarray(0, bytes)], bytes, position)
      giveBack(block)
    }
  }

  end(): void {
    if (this.#gathered.length === 0) return
    this.#write(this.#gathered, this.#gatheredBytes, this.#position)
    for (const block of this.#gathered) giveBack(block)
    this.#gathered = []
    this.#gatheredBytes = 0
  }

  #gather({ position, bytes }: Place, block: Uint8Array): void {
    const near = position === this.#position + this.#gatheredBytes
    if (!near || this.#gathered.length >= blocksPerWriteMax) this.end()
    if (this.#gathered.length === 0) this.#position = position
    this.#gathered.push(bytes === block.length ? block : block.slice(0, bytes))
    this.#gatheredBytes += bytes
  }

  /** Rows that were lost are passed by. */
  #placesOf(row: number): Place[] {
    const { places } = this.#file
    const found: Place[] = []
    for (; (places[this.#next] ?? Number.POSITIVE_INFINITY) <= row; this.#next += placeNumbers) {
      const [of, position = 0, bytes = 0] = places.subarray(this.#next, this.#next + placeNumbers)
      if (of === row) found.push({ position, bytes })
    }
    return found
  }

  #write(pieces: readonly Uint8Array[], bytes: number, position: number): void {
    const { descriptor, path } = this.#file
    try {
      let done = writevSync(descriptor, pieces, position)
      // Cut short by the kernel: rare enough for a copy.
      for (const rest = done < bytes ? Buffer.concat(pieces) : undefined; rest && done < bytes; )
        done += writevSync(descriptor, [rest.subarray(done)], position + done)
    } catch (error) {
      throw fileFault(error, path)
    }
  }
}

interface Place {
  readonly position: number
  readonly bytes: number
}
