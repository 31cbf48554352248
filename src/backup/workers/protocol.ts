// What a pool and its threads say to each other, and the thread's side of it.

import { parentPort } from 'node:worker_threads'
import { asHostletError, type ErrorReport, HostletError } from '../../errors.ts'

export interface TaskMessage {
  readonly task: number
  readonly request: unknown
}

export type AnswerMessage =
  | { readonly task: number; readonly reply: unknown }
  | { readonly task: number; readonly error: ErrorReport }

export interface Answer<Reply> {
  readonly reply: Reply
  /** Buffers of the reply that change hands instead of being copied. */
  readonly transfer?: readonly ArrayBuffer[]
}

/** Answers every request of the pool that this thread belongs to, one after the other. What `handle` throws fails its task only. */
export function serveTasks<Request, Reply>(handle: (request: Request) => Answer<Reply>): void {
  const port = parentPort
  if (port === null) throw new HostletError('E_INTERNAL', 'tasks are served in worker threads only')
  port.on('message', ({ task, request }: TaskMessage) => {
    try {
      const { reply, transfer = [] } = handle(request as Request)
      port.postMessage({ task, reply } satisfies AnswerMessage, [...transfer])
    } catch (error) {
      port.postMessage({ task, error: asHostletError(error).toReport() } satisfies AnswerMessage)
    }
  })
}
