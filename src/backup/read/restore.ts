// Writes a stored disk out: every block authenticated and checked against its address before it is written, zeros not at all.

import { HostletError } from '../../errors.ts'
import type { Clock } from '../../lib/clock.ts'
import { Limiter } from '../../lib/limiter.ts'
import { blockBytes, type DiskTarget, type TargetFile } from '../disk.ts'
import { Bandwidth } from '../write/bandwidth.ts'
import type { WantedBlock } from './block-runs.ts'
import { type BlockConsumer, DiskReader, type DiskReaderOptions, runsInFlightMax } from './disk-reader.ts'
import type { FileOutput } from './open-task.ts'
import type { DiskTree } from './tree.ts'

export interface RestoreProgress {
  readonly doneBytes: number
  readonly totalBytes: number
}

export interface RestoreOptions extends DiskReaderOptions {
  readonly disk: DiskTree & { readonly allocatedBytes?: number }
  /** At least as large as the disk. */
  readonly target: DiskTarget
  /** Limit of what is written. */
  readonly bytesPerSecond?: number | undefined
  readonly clock: Pick<Clock, 'monotonic' | 'sleep'>
  readonly onProgress?: (progress: RestoreProgress) => void
}

/**
 * Restores a disk and finishes the target. Throws E_CORRUPT naming object, entry and place at the first fault; what was
 * written by then is the target's to remove (`abort`, which this calls). Returns the bytes that were written.
 */
export async function restoreDisk(options: RestoreOptions): Promise<{ writtenBytes: number }> {
  const { disk, target, signal } = options
  try {
    if (target.sizeBytes < disk.sizeBytes)
      throw new HostletError(
        'E_BAD_REQUEST',
        `a disk of ${disk.sizeBytes} bytes does not fit into ${target.sizeBytes}`
      )
    const writer = new RestoreWriter(options)
    await using reader = new DiskReader(options)
    await reader.read(disk, writer)
    await target.finish({ signal })
    writer.end()
    return { writtenBytes: writer.writtenBytes }
  } catch (error) {
    // What failed first is what the caller must hear; what could not be taken away lies at a path that he knows.
    await target.abort().catch(() => undefined)
    throw error
  }
}

class RestoreWriter implements BlockConsumer {
  readonly read = 'blocks'
  readonly output: BlockConsumer['output']
  writtenBytes = 0
  readonly #options: RestoreOptions
  readonly #bandwidth: Bandwidth
  readonly #writes: Limiter

  constructor(options: RestoreOptions) {
    this.#options = options
    this.#bandwidth = new Bandwidth(options.clock, options.bytesPerSecond)
    const concurrencyMax = Math.max(1, options.target.writesInFlightMax)
    this.#writes = new Limiter({ concurrencyMax, waitingMax: runsInFlightMax })
    const { file } = options.target
    this.output = file === undefined ? 'reply' : (wanted) => fileOutput(file, wanted, options.disk.sizeBytes)
  }

  async admit(blocks: number): Promise<void> {
    await this.#bandwidth.take(blocks * blockBytes, this.#options.signal)
  }

  async take(
    items: readonly { wanted: WantedBlock; row: number }[],
    plain: Uint8Array | undefined
  ): Promise<void> {
    if (plain === undefined) return this.#written(items)
    for (const { block, row, count } of stretches(items)) {
      const from = row * blockBytes
      await this.#write(block * blockBytes, plain.subarray(from, from + count * blockBytes))
    }
  }

  lostBlock({ wanted, message }: { wanted: WantedBlock; message: string }): never {
    throw this.#fault((wanted.blocks[0] ?? 0) * blockBytes, message)
  }

  lostNode({ firstBlock, fault }: { firstBlock: number; fault: Error }): never {
    throw this.#fault(firstBlock * blockBytes, fault.message)
  }

  end(): void {
    this.#options.onProgress?.({ doneBytes: this.writtenBytes, totalBytes: this.writtenBytes })
  }

  async #write(offset: number, data: Uint8Array): Promise<void> {
    const { disk, target, signal } = this.#options
    // The last block is padded to its full length in the repository.
    const bytes = data.subarray(0, disk.sizeBytes - offset)
    using ticket = this.#writes.enter()
    await ticket.turn(signal)
    await target.write(offset, bytes, { signal })
    this.writtenBytes += bytes.length
    this.#report()
  }

  /** By the threads, straight into the file. */
  #written(items: readonly { wanted: WantedBlock }[]): void {
    const { disk, target } = this.#options
    let bytes = 0
    for (const { wanted } of items)
      for (const block of wanted.blocks) bytes += lengthOf(block, disk.sizeBytes)
    target.file?.written(bytes)
    this.writtenBytes += bytes
    this.#report()
  }

  #report(): void {
    const { disk, onProgress } = this.#options
    const totalBytes = Math.max(disk.allocatedBytes ?? disk.sizeBytes, this.writtenBytes)
    onProgress?.({ doneBytes: this.writtenBytes, totalBytes })
  }

  #fault(offset: number, message: string): HostletError {
    return new HostletError('E_CORRUPT', `the disk cannot be restored from byte ${offset} on: ${message}`, {
      details: { offset }
    })
  }
}

/** The last block is padded to its full length in the repository. */
function lengthOf(block: number, sizeBytes: number): number {
  return Math.min(blockBytes, sizeBytes - block * blockBytes)
}

function fileOutput(file: TargetFile, wanted: readonly WantedBlock[], sizeBytes: number): FileOutput {
  const places = wanted.flatMap(({ blocks }, row) =>
    blocks.flatMap((block) => [row, file.placeOf(block * blockBytes), lengthOf(block, sizeBytes)])
  )
  return { descriptor: file.descriptor, path: file.path, places: Float64Array.from(places) }
}

interface Stretch {
  /** Number of the first block of the disk. */
  readonly block: number
  readonly row: number
  count: number
}

/** Rows whose blocks stand beside one another on the disk, as one write each. */
export function stretches(items: readonly { wanted: Pick<WantedBlock, 'blocks'>; row: number }[]): Stretch[] {
  const found: Stretch[] = []
  for (const { wanted, row } of items)
    for (const block of wanted.blocks) {
      const last = found.at(-1)
      if (last !== undefined && last.block + last.count === block && last.row + last.count === row)
        last.count++
      else found.push({ block, row, count: 1 })
    }
  return found
}
