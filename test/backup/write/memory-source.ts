// A disk in memory that knows what was written since it was last backed up, and a source that shows it as it is.

import { blockBytes, type DiskSource, type Extent, type Wait } from '../../../src/backup/disk.ts'

export class MemoryDisk {
  bytes: Buffer
  /** A flag for each block. */
  dirty: Uint8Array

  constructor(sizeBytes: number) {
    this.bytes = Buffer.alloc(sizeBytes)
    this.dirty = new Uint8Array(Math.ceil(sizeBytes / blockBytes)).fill(1)
  }

  write(offset: number, data: Uint8Array): void {
    this.bytes.set(data, offset)
    this.dirty.fill(1, Math.floor(offset / blockBytes), Math.ceil((offset + data.length) / blockBytes))
  }

  /** As qcow2 does it: what is added reads as zeros and is not dirty, what is cut off is gone. */
  resize(sizeBytes: number): void {
    const bytes = Buffer.alloc(sizeBytes)
    this.bytes.copy(bytes)
    const dirty = new Uint8Array(Math.ceil(sizeBytes / blockBytes))
    dirty.set(this.dirty.subarray(0, dirty.length))
    // What is new reads as zeros, whatever was there before the disk became smaller.
    if (sizeBytes > this.bytes.length) dirty.fill(1, Math.floor(this.bytes.length / blockBytes))
    this.bytes = bytes
    this.dirty = dirty
  }

  clean(): void {
    this.dirty.fill(0)
  }
}

export interface SourceOptions {
  /** Extents that are all zeros are told as such; otherwise everything is data. */
  readonly tellsZeros?: boolean
  /** Longest extent; short ones end anywhere within blocks. */
  readonly extentBytes?: number
  /** Runs before each read: throw to fail, wait to be slow. */
  readonly before?: (offset: number, length: number, wait: Wait) => void | Promise<void>
}

export class MemorySource implements DiskSource {
  readonly readsInFlightMax = 4
  readonly sizeBytes: number
  /** Every read, as [offset, length]. */
  readonly reads: [offset: number, length: number][] = []
  inFlight = 0
  inFlightMost = 0
  readonly #bytes: Buffer
  readonly #dirty: Uint8Array
  readonly #options: SourceOptions

  constructor(disk: MemoryDisk, options: SourceOptions = {}) {
    this.sizeBytes = disk.bytes.length
    this.#bytes = Buffer.from(disk.bytes)
    this.#dirty = Uint8Array.from(disk.dirty)
    this.#options = options
  }

  async *extents(wait: Wait): AsyncGenerator<Extent> {
    const { extentBytes = blockBytes, tellsZeros = true } = this.#options
    for (let offset = 0; offset < this.sizeBytes; offset += extentBytes) {
      wait.signal.throwIfAborted()
      const length = Math.min(extentBytes, this.sizeBytes - offset)
      const first = Math.floor(offset / blockBytes)
      const dirty = this.#dirty.subarray(first, Math.ceil((offset + length) / blockBytes)).includes(1)
      const zero = tellsZeros && isZero(this.#bytes.subarray(offset, offset + length))
      yield { offset, length, zero, dirty }
    }
  }

  async read(offset: number, target: Uint8Array, wait: Wait): Promise<void> {
    wait.signal.throwIfAborted()
    this.reads.push([offset, target.length])
    this.inFlight++
    this.inFlightMost = Math.max(this.inFlight, this.inFlightMost)
    await this.#options.before?.(offset, target.length, wait)
    await Promise.resolve()
    this.inFlight--
    target.set(this.#bytes.subarray(offset, offset + target.length))
  }

  async close(): Promise<void> {}
}

function isZero(bytes: Buffer): boolean {
  return bytes.equals(Buffer.alloc(bytes.length))
}
