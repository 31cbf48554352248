// Keeps the write-ahead log short: a thread for a moment when it has grown, so that the event loop waits for no disk.

import { Worker } from 'node:worker_threads'
import { HostletError } from '../../errors.ts'

/** From this many pages of 4 KiB on the log is carried over into the database: 4 MiB. */
export const walPages = 1_024
/**
 * From here on whoever waits for the disk waits for the end of that as well: commits that come faster than a pass of the
 * thread would let the log grow for ever. 32 MiB.
 */
export const walPagesMax = 8_192
const passesMax = 16
/** SQLite's result when a sync failed: SQLITE_IOERR_FSYNC, SQLITE_IOERR_DIR_FSYNC. */
const syncFaults: ReadonlySet<number | undefined> = new Set([1_034, 1_290])

export interface CheckpointOrder {
  readonly path: string
  readonly passesMax: number
}

export interface CheckpointReply {
  readonly isComplete: boolean
  readonly fault?: { readonly message: string; readonly errcode?: number }
}

export interface WalCheckpointsOptions {
  /** Pages in the log, and those of them that the database has too. */
  pages(): { readonly log: number; readonly checkpointed: number }
  /** Carries over what it can. Rejects when it cannot be begun. */
  carryOver(): Promise<CheckpointReply>
  /** A sync failed: what was written may be lost. */
  onSyncFault(error: HostletError): void
  /** It could not be done and is tried again when more is written. */
  onTrouble(error: unknown): void
}

export class WalCheckpoints {
  readonly #options: WalCheckpointsOptions
  #running: Promise<void> | undefined
  #mustEnd = false

  constructor(options: WalCheckpointsOptions) {
    this.#options = options
  }

  /** Looks at the length of the log, and begins where it is too long. */
  look(): void {
    try {
      const { log, checkpointed } = this.#options.pages()
      this.#mustEnd = log >= walPagesMax && checkpointed < log
      if (log >= walPages && checkpointed < log) this.#running ??= this.#run()
    } catch (error) {
      this.#options.onTrouble(error)
    }
  }

  /** What runs, where the log is so long that nothing more may be written before it ends. */
  get pressing(): Promise<void> | undefined {
    return this.#mustEnd ? this.#running : undefined
  }

  async ended(): Promise<void> {
    await this.#running
  }

  async #run(): Promise<void> {
    const { carryOver, onSyncFault, onTrouble } = this.#options
    try {
      const { fault } = await carryOver()
      if (fault === undefined) return
      const error = new HostletError('E_UNAVAILABLE', fault.message)
      if (syncFaults.has(fault.errcode)) onSyncFault(error)
      else onTrouble(error)
    } catch (error) {
      onTrouble(error)
    } finally {
      this.#running = undefined
      this.#mustEnd = false
    }
  }
}

/** In a thread that lives as long as it takes. */
export async function carryOverInThread(path: string): Promise<CheckpointReply> {
  const order: CheckpointOrder = { path, passesMax }
  const worker = new Worker(new URL('./checkpoint-worker.ts', import.meta.url), {
    workerData: order,
    resourceLimits: { maxOldGenerationSizeMb: 16, maxYoungGenerationSizeMb: 1 }
  })
  const { promise, resolve, reject } = Promise.withResolvers<CheckpointReply>()
  let reply: CheckpointReply | undefined
  worker.once('message', (message: CheckpointReply) => {
    reply = message
  })
  worker.once('error', reject)
  worker.once('exit', (code) => {
    if (reply === undefined)
      reject(new HostletError('E_INTERNAL', `the thread ended with ${code} and no answer`))
    else resolve(reply)
  })
  return await promise
}
