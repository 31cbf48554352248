// What the disks of one backup share: buffers, worker threads, uploads, the bandwidth, and one end for all when something fails.

import type { Clock } from '../../lib/clock.ts'
import { blockBytes } from '../disk.ts'
import { deriveVaultKeys, type VaultKeys } from '../format/keys.ts'
import { packBufferBytesMin } from '../format/pack-builder.ts'
import type { ObjectStore } from '../repository/store.ts'
import { WorkerPool } from '../workers/pool.ts'
import { Bandwidth } from './bandwidth.ts'
import { NodePacker } from './node-packer.ts'
import {
  batchBlocksMax,
  type FinishedPack,
  type PackReply,
  type PackRequest,
  type PackWorkerData
} from './pack-messages.ts'
import { Stock } from './stock.ts'
import { StoredNodes } from './stored-nodes.ts'
import { Uploads } from './uploads.ts'

export const batchBytesMax = batchBlocksMax * blockBytes
/** Batches that are read or wait to be, beside those that the threads have. */
const batchesAheadMax = 4
const tasksPerWorker = 2
/** Packs on their way to the repository at a time. */
const uploadsInFlightMax = 2
/** Longest pack that is written, and what all packs together may take of memory while they are made and stored. */
const packBytesMost = 16 * 1024 * 1024
const packBytesTogether = 64 * 1024 * 1024
const packBytesLeast = 4 * 1024 * 1024

export interface EngineOptions {
  readonly store: ObjectStore
  readonly vm: string
  readonly vmKey: Uint8Array
  readonly compressionLevel: number
  readonly bytesPerSecond?: number | undefined
  readonly workers: number
  readonly clock: Pick<Clock, 'monotonic' | 'sleep'>
  readonly signal: AbortSignal
}

/** Length of a pack: shorter where many threads make one each. */
export function packBytesFor(workers: number): number {
  const share = Math.floor(packBytesTogether / (workers + uploadsInFlightMax))
  return Math.max(packBufferBytesMin, packBytesLeast, Math.min(packBytesMost, share))
}

export class BackupEngine implements AsyncDisposable {
  readonly keys: VaultKeys
  readonly buffers: Stock<ArrayBuffer>
  readonly nodes: NodePacker
  readonly storedNodes: StoredNodes
  readonly bandwidth: Bandwidth
  readonly #options: EngineOptions
  readonly #uploads: Uploads
  readonly #controller = new AbortController()
  readonly #tasks = new Set<Promise<void>>()
  readonly #spares: ArrayBuffer[] = []
  #pool: WorkerPool<PackRequest, PackReply> | undefined
  #fault: { error: unknown } | undefined

  constructor(options: EngineOptions) {
    const { store, vm, workers } = options
    const signal = this.#controller.signal
    this.#options = options
    this.keys = deriveVaultKeys(options.vmKey)
    const buffers = Array.from(
      { length: workers * tasksPerWorker + batchesAheadMax },
      () => new ArrayBuffer(batchBytesMax)
    )
    this.buffers = new Stock(buffers, signal)
    this.bandwidth = new Bandwidth(options.clock, options.bytesPerSecond)
    const onFailure = (error: unknown) => this.fail(error)
    this.#uploads = new Uploads({ store, vm, signal, onFailure, inFlightMax: uploadsInFlightMax })
    this.nodes = new NodePacker(this.keys, this.#uploads)
    this.storedNodes = new StoredNodes({ store, vm, keys: this.keys, signal })
    options.signal.addEventListener('abort', this.#abort, { once: true })
    if (options.signal.aborted) this.#abort()
  }

  /** Aborted by the caller's signal and by the first failure of anything, with the reason that the backup fails with. */
  get signal(): AbortSignal {
    return this.#controller.signal
  }

  get stored(): { storedBytes: number; packs: number } {
    return { storedBytes: this.#uploads.storedBytes, packs: this.#uploads.packs }
  }

  /** Owns a piece of work that nobody awaits: its failure is that of the backup. */
  own(work: Promise<void>): void {
    const task: Promise<void> = work
      .catch((error) => this.fail(error))
      .finally(() => this.#tasks.delete(task))
    this.#tasks.add(task)
  }

  fail(error: unknown): void {
    if (this.#fault !== undefined) return
    this.#fault = { error }
    this.#controller.abort(error)
  }

  /** Has a thread work on blocks that were read. The buffer changes hands; the reply has one back. */
  async pack(buffer: ArrayBuffer, blocks: number, parents: Uint8Array): Promise<PackReply> {
    await this.#uploads.room()
    const spare = this.#spares.pop()
    const request: PackRequest = { buffer, blocks, parents, ...(spare === undefined ? {} : { spare }) }
    const reply = await this.#startedPool().run(request, spare === undefined ? [buffer] : [buffer, spare])
    if (reply.spare !== undefined) this.#keepSpare(reply.spare)
    for (const pack of reply.packs) this.#send(pack)
    return reply
  }

  /** Resolves when everything that was stored is durable. */
  async finish(): Promise<void> {
    const replies = await this.#pool?.runOnEach(() => ({}))
    for (const pack of replies?.flatMap(({ packs }) => packs) ?? []) this.#send(pack)
    await this.nodes.flush()
    await this.#uploads.settled()
    this.signal.throwIfAborted()
  }

  /** Nothing of this backup runs any more when it resolves: no thread, no read, no upload. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.fail(new Error('the backup is over'))
    this.#options.signal.removeEventListener('abort', this.#abort)
    await this.#pool?.close()
    while (this.#tasks.size > 0) await Promise.all(this.#tasks)
    await this.#uploads.settled()
  }

  readonly #abort = () => this.fail(this.#options.signal.reason)

  #startedPool(): WorkerPool<PackRequest, PackReply> {
    const { vmKey, compressionLevel, workers } = this.#options
    const data: PackWorkerData = { vmKey, compressionLevel, packBytes: packBytesFor(workers) }
    const script = new URL('./pack-worker.ts', import.meta.url)
    this.#pool ??= new WorkerPool({ script, workers, data, tasksPerWorker, signal: this.signal })
    return this.#pool
  }

  #send({ buffer, length, ...pack }: FinishedPack): void {
    this.#uploads.send({ ...pack, content: new Uint8Array(buffer, 0, length) }, () => this.#keepSpare(buffer))
  }

  #keepSpare(buffer: ArrayBuffer): void {
    if (this.#spares.length < uploadsInFlightMax) this.#spares.push(buffer)
  }
}
