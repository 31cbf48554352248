// Reads every block of a stored disk, several ranges in flight, and hands it on or says what is wrong with it.

import { HostletError } from '../../errors.ts'
import type { Wait } from '../disk.ts'
import { addressBytes, deriveVaultKeys } from '../format/keys.ts'
import { checkPackHeader, packHeaderBytes } from '../format/pack.ts'
import type { ObjectStore } from '../repository/store.ts'
import { defaultWorkers, WorkerPool } from '../workers/pool.ts'
import { packsOfLeaf, planRuns, type Run, type WantedBlock, type WantedPack } from './block-runs.ts'
import { forEachConcurrent } from './concurrent.ts'
import { type FaultKind, StoredFault } from './fault.ts'
import {
  type FileOutput,
  type OpenReply,
  type OpenRequest,
  type OpenWorkerData,
  release,
  rowNumbers
} from './open-task.ts'
import { type OpenPack, PackReader } from './packs.ts'
import { type DiskTree, type Leaf, type LostNode, TreeReader } from './tree.ts'

/** Ranges that are fetched, opened or written at once: 4 MiB sealed each at most, and 2 MiB plain where the reader gets that. */
export const runsInFlightMax = 6
/** Blocks of one range that are handed over plain. */
const plainBlocksMax = 32
/** Blocks of one range that stay in the thread, which holds few of them plain at a time. */
const blocksMax = 256
const tablesInFlightMax = 8

export interface LostBlock {
  readonly wanted: WantedBlock
  readonly kind: FaultKind
  readonly object: string
  readonly message: string
}

/** What is done with what is read. Throw from any of them to stop. */
export interface BlockConsumer {
  /** Whether blocks are read at all, or only looked for in the tables of their packs. */
  readonly read: 'blocks' | 'tables'
  /** Before a range is fetched: the place for a limit. */
  admit?(blocks: number): Promise<void>
  /**
   * `plain` holds 64 KiB for each item, at its row, and is gone once this has resolved; undefined unless the output is
   * `reply`. Lost blocks are not in `items`.
   */
  take(
    items: readonly { readonly wanted: WantedBlock; readonly row: number }[],
    plain: Uint8Array | undefined
  ): Promise<void>
  /** Where sound blocks go: nowhere, to `take`, or into a file, of which this says where these are to be written. */
  readonly output: 'none' | 'reply' | ((wanted: readonly WantedBlock[]) => FileOutput)
  /** A pack whose header is wrong: nothing is lost by it, and yet it is not what was stored. */
  wrongHeader?(fault: StoredFault): void
  lostBlock(lost: LostBlock): void
  lostNode(lost: LostNode): void
}

export interface DiskReaderOptions extends Wait {
  readonly store: ObjectStore
  /** UUID of the VM whose vault it is. */
  readonly vm: string
  readonly vmKey: Uint8Array
  readonly workers?: number | undefined
}

export class DiskReader implements AsyncDisposable {
  readonly #packs: PackReader
  readonly #tree: TreeReader
  readonly #options: DiskReaderOptions
  #pool: WorkerPool<OpenRequest, OpenReply> | undefined

  constructor(options: DiskReaderOptions) {
    const { store, vm, vmKey, signal } = options
    const keys = deriveVaultKeys(vmKey)
    this.#packs = new PackReader(store, vm, keys)
    this.#tree = new TreeReader(this.#packs, keys, { signal })
    this.#options = options
  }

  async read(disk: DiskTree, consumer: BlockConsumer): Promise<void> {
    const leaves = this.#tree.leaves(disk, { lost: (lost) => consumer.lostNode(lost) })
    await forEachConcurrent(this.#runs(leaves, consumer), runsInFlightMax, (run) =>
      this.#handle(run, consumer)
    )
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#pool?.close()
  }

  async *#runs(leaves: AsyncIterable<Leaf>, consumer: BlockConsumer): AsyncGenerator<Run> {
    for await (const { node, firstBlock } of leaves) {
      const runs: Run[] = []
      await forEachConcurrent(packsOfLeaf(node, firstBlock), tablesInFlightMax, async (wanted) => {
        runs.push(...(await this.#plan(wanted, consumer)))
      })
      if (consumer.read === 'tables') {
        for (const { items } of runs)
          await consumer.take(
            items.map(({ wanted }, row) => ({ wanted, row })),
            undefined
          )
        continue
      }
      yield* runs.sort((one, other) => firstBlockOf(one) - firstBlockOf(other))
    }
  }

  async #plan({ id, wanted }: WantedPack, consumer: BlockConsumer): Promise<Run[]> {
    try {
      const pack = await this.#packs.open(id, this.#options)
      return plan(pack, wanted, consumer)
    } catch (error) {
      if (!(error instanceof StoredFault)) throw error
      for (const one of wanted) consumer.lostBlock(lostBy(one, error))
      return []
    }
  }

  async #handle(run: Run, consumer: BlockConsumer): Promise<void> {
    await consumer.admit?.(run.items.length)
    const whole = consumer.wrongHeader === undefined ? run : withHeader(run)
    try {
      const bytes = await this.#packs.read(whole.pack, whole.offset, whole.length, this.#options)
      if (whole.offset === 0) checkHeader(whole.pack, bytes, consumer)
      await this.#open(whole, bytes, consumer)
    } catch (error) {
      if (!(error instanceof StoredFault)) throw error
      await this.#again(run, error, consumer)
    }
  }

  /** A pack may have been compacted since its table was read: what is there now is asked once more. */
  async #again(run: Run, fault: StoredFault, consumer: BlockConsumer): Promise<void> {
    const wanted = run.items.map((item) => item.wanted)
    const moved = fault.kind === 'missing-object' ? await this.#moved(run.pack) : undefined
    if (moved === undefined) {
      for (const one of wanted) consumer.lostBlock(lostBy(one, fault))
      return
    }
    for (const next of plan(moved, wanted, consumer)) await this.#openMoved(next, consumer)
  }

  /** There is no third look: what is wrong now is lost. */
  async #openMoved(run: Run, consumer: BlockConsumer): Promise<void> {
    try {
      const bytes = await this.#packs.read(run.pack, run.offset, run.length, this.#options)
      await this.#open(run, bytes, consumer)
    } catch (error) {
      if (!(error instanceof StoredFault)) throw error
      for (const { wanted } of run.items) consumer.lostBlock(lostBy(wanted, error))
    }
  }

  async #moved({ id, generation }: OpenPack): Promise<OpenPack | undefined> {
    this.#packs.forget(id)
    try {
      const pack = await this.#packs.open(id, this.#options)
      return pack.generation === generation ? undefined : pack
    } catch (error) {
      if (error instanceof StoredFault) return undefined
      throw error
    }
  }

  async #open(run: Run, bytes: Uint8Array, consumer: BlockConsumer): Promise<void> {
    const { plain, faults } = await this.#workers().run(
      requestOf(run, bytes, consumer.output),
      transferable(bytes)
    )
    const lost = new Set(faults.map(({ index }) => index))
    for (const { index, kind, message } of faults) {
      const wanted = run.items[index]?.wanted
      if (wanted !== undefined) consumer.lostBlock({ wanted, kind, object: run.pack.name, message })
    }
    const items = run.items.map(({ wanted }, row) => ({ wanted, row })).filter(({ row }) => !lost.has(row))
    await consumer.take(items, plain)
    if (plain !== undefined) release(plain)
  }

  /** Threads are started when the first block is to be opened: a look at the structure needs none. */
  #workers(): WorkerPool<OpenRequest, OpenReply> {
    const { vmKey, workers = defaultWorkers(), signal } = this.#options
    const data: OpenWorkerData = { vmKey }
    this.#pool ??= new WorkerPool({
      script: new URL('open-worker.ts', import.meta.url),
      workers,
      data,
      signal
    })
    return this.#pool
  }
}

function plan(pack: OpenPack, wanted: readonly WantedBlock[], consumer: BlockConsumer): Run[] {
  const most = consumer.output === 'reply' ? plainBlocksMax : blocksMax
  return planRuns(pack, wanted, most, (one, fault) => consumer.lostBlock(lostBy(one, fault)))
}

/** The first entry of a pack is read together with the header that stands before it. */
function withHeader(run: Run): Run {
  return run.offset === packHeaderBytes ? { ...run, offset: 0, length: run.length + packHeaderBytes } : run
}

function checkHeader(pack: OpenPack, bytes: Uint8Array, consumer: BlockConsumer): void {
  try {
    checkPackHeader(bytes, pack, { object: pack.name })
  } catch (error) {
    if (!(error instanceof HostletError)) throw error
    consumer.wrongHeader?.(new StoredFault('damaged-object', pack.name, error))
  }
}

function requestOf(run: Run, bytes: Uint8Array, output: BlockConsumer['output']): OpenRequest {
  const rows = new Uint32Array(run.items.length * rowNumbers)
  const addresses = new Uint8Array(run.items.length * addressBytes)
  for (const [index, { entry, wanted }] of run.items.entries()) {
    rows.set([entry.number, entry.offset - run.offset, entry.length, entry.flags], index * rowNumbers)
    addresses.set(wanted.address, index * addressBytes)
  }
  return {
    ...{ pack: new Uint8Array(run.pack.id), object: run.pack.name, bytes, rows, addresses },
    output: typeof output === 'string' ? output : output(run.items.map(({ wanted }) => wanted))
  }
}

/** The buffer behind the bytes when it is all theirs: handed over instead of copied. */
function transferable({ buffer, byteLength }: Uint8Array): ArrayBuffer[] {
  return buffer instanceof ArrayBuffer && buffer.byteLength === byteLength ? [buffer] : []
}

function lostBy(wanted: WantedBlock, { kind, object, error }: StoredFault): LostBlock {
  return { wanted, kind, object, message: error.message }
}

function firstBlockOf(run: Run): number {
  return Math.min(...run.items.map(({ wanted }) => wanted.blocks[0] ?? 0))
}
