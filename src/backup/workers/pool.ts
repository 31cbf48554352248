// A bounded pool of worker threads: tasks go to the least busy one, and whatever ends a thread is an error of its tasks.

import { availableParallelism } from 'node:os'
import { Worker } from 'node:worker_threads'
import { HostletError } from '../../errors.ts'
import type { AnswerMessage, TaskMessage } from './protocol.ts'

/** Threads that a pool has when nobody says. Each takes 20 to 30 MiB, and they share the host with its guests. */
const workersDefaultMax = 2
export const workersMax = 64
/** Tasks that a thread has at a time: one that runs, and the next, so that it never waits for the main thread. */
const tasksPerWorkerDefault = 2
/** Callers of `run` that may wait for room. */
const waitingDefaultMax = 256
/**
 * Heap of a thread. With the default V8 lets 64 MiB of buffers that nobody uses pile up outside of the heap before it
 * looks for them; with this it keeps them under 16 MiB, and a thread that needs more is at fault.
 */
const heapMebibytesMax = 20
const youngMebibytesMax = 4

export function defaultWorkers(): number {
  return Math.min(availableParallelism(), workersDefaultMax)
}

export interface PoolOptions {
  /** Module that calls `serveTasks`. */
  readonly script: URL
  readonly workers: number
  /** Given to each thread as its `workerData`. */
  readonly data: unknown
  /** Ends the pool: everything in it rejects with the signal's reason, and the threads are stopped. */
  readonly signal: AbortSignal
  readonly tasksPerWorker?: number
  readonly waitingMax?: number
}

interface Task {
  resolve(reply: unknown): void
  reject(error: unknown): void
}

interface Thread {
  readonly worker: Worker
  readonly tasks: Map<number, Task>
  /** Places given away that no task has taken yet. */
  reserved: number
}

type Waiter = { resolve(thread: Thread): void; reject(error: unknown): void }

export class WorkerPool<Request, Reply> implements AsyncDisposable {
  readonly #threads: Thread[]
  readonly #waiting: Waiter[] = []
  readonly #tasksPerWorker: number
  readonly #waitingMax: number
  readonly #signal: AbortSignal
  #lastTask = 0
  #fault: { error: unknown } | undefined
  #stopped: Promise<void> | undefined

  constructor(options: PoolOptions) {
    const { workers, signal } = options
    if (!Number.isInteger(workers) || workers < 1 || workers > workersMax)
      throw new HostletError('E_BAD_REQUEST', `a pool has 1 to ${workersMax} workers, not ${workers}`)
    signal.throwIfAborted()
    this.#tasksPerWorker = options.tasksPerWorker ?? tasksPerWorkerDefault
    this.#waitingMax = options.waitingMax ?? waitingDefaultMax
    this.#signal = signal
    this.#threads = Array.from({ length: workers }, () => this.#startThread(options))
    signal.addEventListener('abort', this.#abort, { once: true })
  }

  get workers(): number {
    return this.#threads.length
  }

  /** Tasks that no thread has answered yet. */
  get running(): number {
    return this.#threads.reduce((sum, { tasks }) => sum + tasks.size, 0)
  }

  /** Gives the request to the least busy thread once one has room, and returns its reply. Rejects with what the handler threw. */
  async run(request: Request, transfer: readonly ArrayBuffer[] = []): Promise<Reply> {
    const thread = this.#takeRoom() ?? (await this.#waitForRoom())
    thread.reserved--
    return this.#post(thread, request, transfer)
  }

  /** Gives one request to every thread, after all that it has; for what each holds by itself. */
  runOnEach(makeRequest: (worker: number) => Request): Promise<Reply[]> {
    return Promise.all(this.#threads.map((thread, index) => this.#post(thread, makeRequest(index), [])))
  }

  /** Stops all threads; tasks that are not answered reject with E_CANCELLED. Safe to call more than once. */
  async close(): Promise<void> {
    this.#fail(new HostletError('E_CANCELLED', 'the worker threads were stopped'))
    await this.#stopped
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close()
  }

  readonly #abort = () => this.#fail(this.#signal.reason)

  #startThread({ script, data }: PoolOptions): Thread {
    const worker = new Worker(script, {
      workerData: data,
      resourceLimits: {
        maxOldGenerationSizeMb: heapMebibytesMax,
        maxYoungGenerationSizeMb: youngMebibytesMax
      }
    })
    const thread: Thread = { worker, tasks: new Map(), reserved: 0 }
    worker.on('message', (message: AnswerMessage) => this.#answered(thread, message))
    worker.on('messageerror', (error) => this.#fail(died('a message of it could not be read', error)))
    worker.on('error', (error) =>
      this.#fail(died(error instanceof Error ? error.message : String(error), error))
    )
    worker.on('exit', (code) => this.#fail(died(`it ended with status ${code}`)))
    return thread
  }

  #answered(thread: Thread, message: AnswerMessage): void {
    const task = thread.tasks.get(message.task)
    thread.tasks.delete(message.task)
    if ('error' in message) {
      const { code, message: text, details = {} } = message.error
      task?.reject(new HostletError(code, text, { details }))
    } else task?.resolve(message.reply)
    this.#callNext()
  }

  /** The least busy thread, with a place in it reserved, where one has room. */
  #takeRoom(): Thread | undefined {
    if (this.#fault !== undefined) throw this.#fault.error
    const load = ({ tasks, reserved }: Thread) => tasks.size + reserved
    const idlest = this.#threads.reduce((best, thread) => (load(thread) < load(best) ? thread : best))
    if (load(idlest) >= this.#tasksPerWorker) return undefined
    idlest.reserved++
    return idlest
  }

  #waitForRoom(): Promise<Thread> {
    if (this.#waiting.length >= this.#waitingMax)
      throw new HostletError('E_BUSY', `${this.#waiting.length} tasks wait for a worker thread already`)
    return new Promise((resolve, reject) => this.#waiting.push({ resolve, reject }))
  }

  #callNext(): void {
    if (this.#waiting.length === 0) return
    const thread = this.#takeRoom()
    if (thread !== undefined) this.#waiting.shift()?.resolve(thread)
  }

  #post(thread: Thread, request: Request, transfer: readonly ArrayBuffer[]): Promise<Reply> {
    return new Promise((resolve, reject) => {
      if (this.#fault !== undefined) throw this.#fault.error
      const task = ++this.#lastTask
      thread.tasks.set(task, { resolve: (reply) => resolve(reply as Reply), reject })
      try {
        thread.worker.postMessage({ task, request } satisfies TaskMessage, [...transfer])
      } catch (error) {
        // What cannot be cloned or moved is its caller's fault; the place goes to the next.
        thread.tasks.delete(task)
        this.#callNext()
        reject(error)
      }
    })
  }

  /** The first fault is the one that every task and every later call gets. */
  #fail(error: unknown): void {
    if (this.#fault !== undefined) return
    this.#fault = { error }
    for (const waiter of this.#waiting.splice(0)) waiter.reject(error)
    for (const { tasks } of this.#threads) {
      for (const task of tasks.values()) task.reject(error)
      tasks.clear()
    }
    this.#stopped = this.#stop()
  }

  async #stop(): Promise<void> {
    this.#signal.removeEventListener('abort', this.#abort)
    await Promise.all(this.#threads.map(({ worker }) => worker.terminate()))
  }
}

function died(how: string, cause?: unknown): HostletError {
  const text = `a worker thread died: ${how}. Please report it with the log around it.`
  return new HostletError('E_INTERNAL', text, cause === undefined ? {} : { cause })
}
