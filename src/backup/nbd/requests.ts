// What was asked and is not answered yet, and the bytes of the question.

import type { HostletError } from '../../errors.ts'
import type { Coverage } from './coverage.ts'
import { magic } from './protocol.ts'

/** Consecutive bytes of one status in one context. */
export interface StatusRun {
  length: number
  readonly flags: number
}

interface RequestBase {
  readonly name: string
  readonly type: number
  readonly offset: number
  readonly length: number
  chunks: number
  /** First error that the server gave. */
  fault: HostletError | undefined
  /** Nobody waits any more: what still comes is checked and thrown away. */
  abandoned: boolean
}

export interface ReadRequest extends RequestBase {
  readonly kind: 'read'
  readonly target: Uint8Array
  readonly coverage: Coverage
}

export interface StatusRequest extends RequestBase {
  readonly kind: 'status'
  /** By the server's number of the context. */
  readonly answers: Map<number, StatusRun[]>
}

export interface PlainRequest extends RequestBase {
  readonly kind: 'plain'
  readonly payload: Uint8Array | undefined
}

export type Request = ReadRequest | StatusRequest | PlainRequest

/** What every request starts with. */
export const unanswered = { chunks: 0, fault: undefined, abandoned: false } as const

export const requestHeadBytes = 28

export function requestHead(cookie: number, type: number, offset: number, length: number): Buffer {
  const head = Buffer.allocUnsafe(requestHeadBytes)
  head.writeUInt32BE(magic.request, 0)
  head.writeUInt16BE(0, 4)
  head.writeUInt16BE(type, 6)
  head.writeUInt32BE(0, 8)
  head.writeUInt32BE(cookie, 12)
  head.writeUInt32BE(Math.floor(offset / 0x1_0000_0000), 16)
  head.writeUInt32BE(offset % 0x1_0000_0000, 20)
  head.writeUInt32BE(length, 24)
  return head
}
