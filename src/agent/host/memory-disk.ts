// A disk of the hypervisor in memory: sparse blocks, views of an instant, and what was written since a checkpoint.

import { Buffer } from 'node:buffer'
import { blockBytes, type DiskSource, type Extent } from '../../backup/disk.ts'
import { HostletError } from '../../errors.ts'

const readsInFlightMax = 8

export class MemoryDisk {
  #sizeBytes: number
  /** A block that is written is replaced, never changed: a copy of the map is a view of the instant. */
  readonly #blocks = new Map<number, Buffer>()
  readonly #bitmaps = new Map<string, Set<number>>()

  constructor(sizeBytes: number) {
    this.#sizeBytes = sizeBytes
  }

  get sizeBytes(): number {
    return this.#sizeBytes
  }

  /** Empty beyond what it was. It never shrinks. */
  grow(sizeBytes: number): void {
    this.#sizeBytes = Math.max(this.#sizeBytes, sizeBytes)
  }

  write(offset: number, data: Uint8Array): void {
    this.#requireInside(offset, data.length)
    for (let done = 0; done < data.length; ) {
      const index = Math.floor((offset + done) / blockBytes)
      const from = (offset + done) % blockBytes
      const part = data.subarray(done, done + blockBytes - from)
      const block = Buffer.from(this.#blocks.get(index) ?? Buffer.alloc(blockBytes))
      block.set(part, from)
      this.#blocks.set(index, block)
      for (const bitmap of this.#bitmaps.values()) bitmap.add(index)
      done += part.length
    }
  }

  read(offset: number, length: number): Buffer {
    this.#requireInside(offset, length)
    return readBlocks(this.#blocks, offset, length)
  }

  /** From now on what is written is noted under the name. */
  addBitmap(name: string): void {
    this.#bitmaps.set(name, new Set())
  }

  hasBitmap(name: string): boolean {
    return this.#bitmaps.has(name)
  }

  removeBitmap(name: string): void {
    this.#bitmaps.delete(name)
  }

  /** The disk as it is now. `lost` says why the view is gone, once it is. */
  freeze(since: string | null, lost: AbortSignal): DiskSource {
    const blocks = new Map(this.#blocks)
    const dirty = since === null ? undefined : new Set(this.#bitmaps.get(since))
    const { sizeBytes } = this
    let closed = false
    const check = (signal: AbortSignal) => {
      signal.throwIfAborted()
      if (closed || lost.aborted)
        throw new HostletError('E_UNAVAILABLE', 'the backup job has ended', { cause: lost.reason })
    }
    return {
      sizeBytes,
      readsInFlightMax,
      async *extents({ signal }) {
        for (const extent of extentsOf(sizeBytes, blocks, dirty)) {
          check(signal)
          yield extent
        }
      },
      read: async (offset, target, { signal }) => {
        check(signal)
        target.set(readBlocks(blocks, offset, target.length))
      },
      close: async () => {
        closed = true
      }
    }
  }

  #requireInside(offset: number, length: number): void {
    if (offset >= 0 && offset + length <= this.sizeBytes) return
    throw new HostletError(
      'E_INTERNAL',
      `${length} bytes at ${offset} are not on a disk of ${this.sizeBytes}`
    )
  }
}

function readBlocks(blocks: ReadonlyMap<number, Buffer>, offset: number, length: number): Buffer {
  const bytes = Buffer.alloc(length)
  for (let done = 0; done < length; ) {
    const from = (offset + done) % blockBytes
    const part = Math.min(blockBytes - from, length - done)
    blocks.get(Math.floor((offset + done) / blockBytes))?.copy(bytes, done, from, from + part)
    done += part
  }
  return bytes
}

function* extentsOf(
  sizeBytes: number,
  blocks: ReadonlyMap<number, Buffer>,
  dirty: ReadonlySet<number> | undefined
): Generator<Extent> {
  let run: { offset: number; length: number; zero: boolean; dirty: boolean } | undefined
  for (let offset = 0; offset < sizeBytes; offset += blockBytes) {
    const index = offset / blockBytes
    const zero = !blocks.has(index)
    const isDirty = dirty?.has(index) ?? true
    const length = Math.min(blockBytes, sizeBytes - offset)
    if (run !== undefined && run.zero === zero && run.dirty === isDirty) {
      run.length += length
      continue
    }
    if (run !== undefined) yield run
    run = { offset, length, zero, dirty: isDirty }
  }
  if (run !== undefined) yield run
}
