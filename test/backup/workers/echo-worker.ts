// A worker thread that does what it is told to, for the tests of the pool.

import { threadId, workerData } from 'node:worker_threads'
import { serveTasks } from '../../../src/backup/workers/protocol.ts'
import { HostletError } from '../../../src/errors.ts'

export interface EchoRequest {
  readonly say?: string
  readonly buffer?: ArrayBuffer
  readonly fail?: string
  readonly end?: 'exit' | 'throw later'
  readonly spin?: boolean
}

export interface EchoReply {
  readonly say: string | undefined
  readonly thread: number
  readonly data: unknown
  readonly buffer: ArrayBuffer | undefined
}

serveTasks<EchoRequest, EchoReply>((request) => {
  if (request.fail !== undefined) throw new HostletError('E_CORRUPT', request.fail, { details: { entry: 7 } })
  if (request.end === 'exit') process.exit(3)
  if (request.end === 'throw later')
    queueMicrotask(() => {
      throw new Error('out of the blue')
    })
  while (request.spin) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1000)
  const { say, buffer } = request
  if (buffer !== undefined) new Uint8Array(buffer).reverse()
  const reply = { say, thread: threadId, data: workerData, buffer }
  return { reply, transfer: buffer === undefined ? [] : [buffer] }
})
