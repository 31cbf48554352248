// The thread that carries the log over: kept for a while, since making one costs more than what it is made for.

import { Worker } from 'node:worker_threads'
import { HostletError } from '../../errors.ts'
import type { CheckpointOrder, CheckpointReply } from './wal-checkpoints.ts'

/** From the last order on. A host that is quiet has no such thread. */
export const lingerMs = 5_000

export class CheckpointThread implements Disposable {
  readonly #order: CheckpointOrder
  #worker: Worker | undefined
  #leaving: NodeJS.Timeout | undefined

  constructor(order: CheckpointOrder) {
    this.#order = order
  }

  /** One order at a time. Rejects with E_INTERNAL when the thread ends without an answer. */
  async carryOver(): Promise<CheckpointReply> {
    clearTimeout(this.#leaving)
    const worker = this.#worker ?? this.#start()
    const { promise, resolve, reject } = Promise.withResolvers<CheckpointReply>()
    const onExit = (code: number) =>
      reject(new HostletError('E_INTERNAL', `the thread ended with ${code} and no answer`))
    worker.once('message', resolve).once('error', reject).once('exit', onExit)
    worker.ref()
    try {
      worker.postMessage(this.#order)
      return await promise
    } finally {
      worker.off('message', resolve).off('error', reject).off('exit', onExit)
      worker.unref()
      if (this.#worker === worker) this.#leaving = setTimeout(() => this[Symbol.dispose](), lingerMs).unref()
    }
  }

  /** An order that is under way is not waited for. */
  [Symbol.dispose](): void {
    clearTimeout(this.#leaving)
    void this.#worker?.terminate()
    this.#worker = undefined
  }

  #start(): Worker {
    const worker = new Worker(new URL('./checkpoint-worker.ts', import.meta.url), {
      resourceLimits: { maxOldGenerationSizeMb: 16, maxYoungGenerationSizeMb: 1 }
    })
    worker.once('exit', () => {
      if (this.#worker === worker) this.#worker = undefined
    })
    this.#worker = worker
    return worker
  }
}
