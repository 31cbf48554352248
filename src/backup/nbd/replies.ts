// The server's side of transmission: takes replies apart, holds each to what was asked, and puts payload where it belongs.

import { commandFault, printable, violation } from './faults.ts'
import type { Parser } from './feed.ts'
import type { ExportInfo } from './handshake.ts'
import {
  chunk,
  chunksPerReplyMax,
  magic,
  replyFlagDone,
  statusExtentsKeptMax,
  statusExtentsMax,
  stringBytesMax
} from './protocol.ts'
import type { ReadRequest, Request, StatusRequest, StatusRun } from './requests.ts'

export interface Questions {
  find(cookie: number): Request | undefined
  /** The last of a request's reply has come; `request.fault` says whether it failed. */
  finished(cookie: number, request: Request): void
}

/** Both kinds of reply begin with as much, and the rest is as long as the type says, so that no read asks for too much. */
const headBytes = 16
const statusPieceBytes = 32_768

/** Runs for as long as the connection. Throws E_PROTOCOL; then nothing that follows has a meaning. */
export function* replies(
  info: Pick<ExportInfo, 'structuredReplies' | 'contexts'>,
  questions: Questions
): Parser {
  const head = Buffer.alloc(headBytes)
  const body = Buffer.alloc(headBytes)
  const skip = skipper()
  for (;;) {
    yield head
    const cookie = head.readUInt32BE(12)
    const request = head.readUInt32BE(8) === 0 ? questions.find(cookie) : undefined
    const kind = head.readUInt32BE(0)
    if (kind !== magic.simpleReply && kind !== magic.structuredReply)
      throw violation('a reply without its magic')
    if (request === undefined) throw violation('a reply to nothing that was asked')
    if (kind === magic.simpleReply) {
      yield* simpleReply(request, head.readUInt32BE(4), info.structuredReplies, skip)
      questions.finished(cookie, request)
    } else {
      if (!info.structuredReplies) throw violation('a structured reply that was not agreed')
      if (++request.chunks > chunksPerReplyMax) throw violation('endless pieces of a reply')
      const done = (head.readUInt16BE(4) & replyFlagDone) !== 0
      yield* structuredChunk(head.readUInt16BE(6), done, { request, body, skip, contexts: info.contexts })
      if (!done) continue
      mustBeWhole(request, info.contexts)
      questions.finished(cookie, request)
    }
  }
}

type Skip = (bytes: number) => Parser

interface ChunkContext {
  readonly request: Request
  readonly body: Buffer
  readonly skip: Skip
  readonly contexts: ReadonlyMap<number, string>
}

function* simpleReply(request: Request, error: number, structured: boolean, skip: Skip): Parser {
  if (request.kind === 'status' && error === 0) throw violation('a simple reply to a question of status')
  if (request.kind === 'read' && structured) throw violation('a simple reply to a read')
  if (error !== 0) request.fault ??= commandFault(request.name, error, '')
  else if (request.kind === 'read') {
    if (request.abandoned) yield* skip(request.length)
    else yield request.target
  }
}

function* structuredChunk(type: number, done: boolean, context: ChunkContext): Parser {
  if (type === chunk.data) yield* dataChunk(context)
  else if (type === chunk.hole) yield* holeChunk(context)
  else if (type === chunk.blockStatus) yield* statusChunk(context)
  else if (type & chunk.errorBit) yield* errorChunk(type, context)
  else if (type === chunk.none) {
    const length = context.body.subarray(0, 4)
    yield length
    if (!done || length.readUInt32BE(0) !== 0) throw violation('an end of a reply that is none')
  } else throw violation('a piece of a reply of an unknown type', { type })
}

function* dataChunk({ request, body, skip }: ChunkContext): Parser {
  const lead = body.subarray(0, 12)
  yield lead
  const length = lead.readUInt32BE(0) - 8
  mustRead(request)
  const start = claim(request, readOffset(lead, 4), length)
  if (request.abandoned) yield* skip(length)
  else yield request.target.subarray(start, start + length)
}

function* holeChunk({ request, body }: ChunkContext): Parser {
  const lead = body.subarray(0, 16)
  yield lead
  if (lead.readUInt32BE(0) !== 12) throw violation('a hole of the wrong form')
  const length = lead.readUInt32BE(12)
  mustRead(request)
  const start = claim(request, readOffset(lead, 4), length)
  if (!request.abandoned) request.target.fill(0, start, start + length)
}

/** Marks the range as answered and returns where it starts in the target. */
function claim(request: ReadRequest, offset: number, length: number): number {
  const start = offset - request.offset
  if (!request.coverage.add(start, length))
    throw violation('data that was not asked for, or twice', { offset, length })
  return start
}

function mustRead(request: Request): asserts request is ReadRequest {
  if (request.kind !== 'read') throw violation(`data as an answer to a ${request.name}`)
}

/** Beyond what a Number holds exactly it is Infinity, which no request covers. */
function readOffset(bytes: Buffer, at: number): number {
  const high = bytes.readUInt32BE(at)
  return high > 0x1f_ffff ? Number.POSITIVE_INFINITY : high * 0x1_0000_0000 + bytes.readUInt32BE(at + 4)
}

function* statusChunk({ request, body, contexts }: ChunkContext): Parser {
  const lead = body.subarray(0, 8)
  yield lead
  const bytes = lead.readUInt32BE(0) - 4
  const context = lead.readUInt32BE(4)
  if (request.kind !== 'status') throw violation(`status as an answer to a ${request.name}`)
  if (bytes < 8 || bytes % 8 !== 0 || bytes > statusExtentsMax * 8)
    throw violation('status of the wrong length', { bytes })
  if (!contexts.has(context) || request.answers.has(context))
    throw violation('status of a context that was not agreed, or twice', { context })
  const tally: Tally = { runs: [], bytes: 0, full: false }
  request.answers.set(context, tally.runs)
  for (let left = bytes; left > 0; left -= statusPieceBytes) {
    const piece = Buffer.allocUnsafe(Math.min(left, statusPieceBytes))
    yield piece
    for (let at = 0; at < piece.length; at += 8)
      addRun(request, tally, piece.readUInt32BE(at), piece.readUInt32BE(at + 4))
  }
}

interface Tally {
  readonly runs: StatusRun[]
  /** Of all runs so far, kept or not. */
  bytes: number
  full: boolean
}

/** Only the last run may reach beyond what was asked; it is cut there. */
function addRun(request: StatusRequest, tally: Tally, length: number, flags: number): void {
  if (length === 0) throw violation('a status of no bytes')
  if (tally.bytes >= request.length) throw violation('status beyond what was asked')
  const kept = Math.min(length, request.length - tally.bytes)
  tally.bytes += length
  const last = tally.runs.at(-1)
  tally.full ||= last?.flags !== flags && tally.runs.length >= statusExtentsKeptMax
  if (tally.full) return
  if (last?.flags === flags) last.length += kept
  else tally.runs.push({ length: kept, flags })
}

function* errorChunk(type: number, { request, body }: ChunkContext): Parser {
  const lead = body.subarray(0, 10)
  yield lead
  const length = lead.readUInt32BE(0)
  const error = lead.readUInt32BE(4)
  const textBytes = lead.readUInt16BE(8)
  const rest = length - 6 - textBytes
  const wrongRest =
    (type === chunk.error && rest !== 0) || (type === chunk.errorAtOffset && rest !== 8) || rest < 0
  if (wrongRest || textBytes > stringBytesMax || rest > stringBytesMax)
    throw violation('an error of the wrong form')
  const known = type === chunk.error || type === chunk.errorAtOffset
  if (known && error === 0) throw violation('an error that is none')
  const tail = Buffer.alloc(textBytes + rest)
  yield tail
  request.fault ??= commandFault(request.name, error, printable(tail.subarray(0, textBytes)))
}

function mustBeWhole(request: Request, contexts: ReadonlyMap<number, string>): void {
  if (request.fault !== undefined) return
  if (request.kind === 'read' && !request.coverage.complete)
    throw violation('a reply that ends before all is read')
  if (request.kind === 'status' && request.answers.size !== contexts.size)
    throw violation('a reply that lacks a context')
}

function skipper(): Skip {
  let scratch: Buffer | undefined
  return function* skip(bytes) {
    scratch ??= Buffer.allocUnsafeSlow(65_536)
    for (let left = bytes; left > 0; left -= scratch.length)
      yield scratch.subarray(0, Math.min(left, scratch.length))
  }
}
