// What the disks of one backup share: buffers, worker threads, uploads, the bandwidth, and one end for all when something fails.

import type { Clock } from '../../lib/clock.ts'
import { deriveVaultKeys, type VaultKeys } from '../format/keys.ts'
import type { ObjectStore } from '../repository/store.ts'
import { WorkerPool } from '../workers/pool.ts'
import { Bandwidth } from './bandwidth.ts'
import { NodePacker } from './node-packer.ts'
import { PackAssembler } from './pack-assembler.ts'
import { batchBufferBytes, type PackReply, type PackRequest, type PackWorkerData } from './pack-messages.ts'
import { Stock } from './stock.ts'
import { StoredNodes } from './stored-nodes.ts'
import { Uploads } from './uploads.ts'

/** Batches that are read or wait to be, beside those that the threads have. */
const batchesAheadMax = 4
const tasksPerWorker = 2
/** Packs on their way to the repository at a time. */
const uploadsInFlightMax = 2
/** Longest pack that is written; together they are the largest part of what a backup takes of memory. */
const packBytes = 13 * 1024 * 1024
/** One that is filled, while others are stored. */
const packBuffers = uploadsInFlightMax + 1

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
  readonly #assembler: PackAssembler
  /** A place for each task that the threads may have. */
  readonly #turns: Stock<true>
  #pool: WorkerPool<PackRequest, PackReply> | undefined
  #fault: { error: unknown } | undefined

  constructor(options: EngineOptions) {
    const { store, vm, workers } = options
    const signal = this.#controller.signal
    this.#options = options
    this.keys = deriveVaultKeys(options.vmKey)
    this.buffers = stockOf(workers * tasksPerWorker + batchesAheadMax, batchBufferBytes, signal)
    this.#turns = new Stock(new Array<true>(workers * tasksPerWorker).fill(true), signal)
    this.bandwidth = new Bandwidth(options.clock, options.bytesPerSecond)
    const onFailure = (error: unknown) => this.fail(error)
    this.#uploads = new Uploads({ store, vm, signal, onFailure, inFlightMax: uploadsInFlightMax })
    this.#assembler = new PackAssembler(this.keys, this.#uploads, stockOf(packBuffers, packBytes, signal))
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

  /** Has a thread work on blocks that were read, and returns its rows. The buffer goes back to the stock by itself. */
  async pack(buffer: ArrayBuffer, blocks: number, parents: Uint8Array): Promise<Uint8Array> {
    // A pack keeps room for whatever is assigned: what waits for a thread would make packs shorter for nothing.
    await this.#turns.take()
    const assignment = await this.#assembler.assign(blocks)
    const { firstNumber, pack } = assignment
    const request: PackRequest = { buffer, blocks, parents, pack: pack.builder.id, firstNumber }
    const reply = await this.#startedPool().run(request, [buffer])
    this.#turns.give(true)
    const release = () => this.buffers.give(reply.buffer)
    this.#assembler.deliver({ assignment, rows: reply.rows, sealed: new Uint8Array(reply.buffer), release })
    return reply.rows
  }

  /** Resolves when everything that was stored is durable. */
  async finish(): Promise<void> {
    this.#assembler.finish()
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
    const data: PackWorkerData = { vmKey, compressionLevel }
    const script = new URL('./pack-worker.ts', import.meta.url)
    this.#pool ??= new WorkerPool({ script, workers, data, tasksPerWorker, signal: this.signal })
    return this.#pool
  }
}

function stockOf(count: number, bytes: number, signal: AbortSignal): Stock<ArrayBuffer> {
  return new Stock(
    Array.from({ length: count }, () => new ArrayBuffer(bytes)),
    signal
  )
}
