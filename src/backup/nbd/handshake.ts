// The start of a connection: greeting, options, and what the server says of the export (NBD specification, fixed newstyle).

import { HostletError } from '../../errors.ts'
import { optionFault, printable, violation } from './faults.ts'
import type { Parser } from './feed.ts'
import {
  contextsMax,
  exportBytesMax,
  handshakeFlag,
  info,
  magic,
  option,
  optionError,
  optionRepliesMax,
  optionReply,
  optionReplyBytesMax,
  payloadBytesMaxDefault,
  payloadBytesMaxLeast,
  stringBytesMax,
  transmissionFlag
} from './protocol.ts'

export interface ExportInfo {
  readonly sizeBytes: number
  readonly readOnly: boolean
  readonly canFlush: boolean
  readonly canWriteZeroes: boolean
  /** Several connections see the same bytes: what one has written and flushed, the others read. */
  readonly multipleConnections: boolean
  /** Offsets and lengths must be multiples of it. */
  readonly blockBytesLeast: number
  /** Most bytes that one request may read or write. */
  readonly payloadBytesMax: number
  readonly structuredReplies: boolean
  /** Contexts that were agreed, by the number that the server gave them. */
  readonly contexts: ReadonlyMap<number, string>
}

export interface ExportEntry {
  readonly name: string
  readonly description: string
}

export type Send = (bytes: Uint8Array) => void

/** Agrees on everything and enters transmission. Throws E_PROTOCOL, or what `optionFault` makes of a refusal. */
export function* handshake(
  wanted: { readonly exportName: string; readonly contexts: readonly string[] },
  send: Send
): Parser<ExportInfo> {
  yield* greet(send)
  const structuredReplies = yield* agreeStructuredReplies(send)
  const contexts = structuredReplies ? yield* agreeContexts(wanted, send) : new Map<number, string>()
  const facts = yield* enter(wanted.exportName, send)
  return { ...facts, structuredReplies, contexts }
}

/** Asks for the names of the exports, and leaves. Throws E_AUTH where the server does not tell. */
export function* listing(send: Send): Parser<ExportEntry[]> {
  yield* greet(send)
  send(optionRequest(option.list))
  const entries: ExportEntry[] = []
  for (;;) {
    const { type, payload } = yield* optionAnswer(option.list, 'the list of its exports')
    if (type === optionReply.ack) break
    if (type !== optionReply.server) throw violation('an odd reply to the list of exports', { type })
    entries.push(readExport(payload))
    if (entries.length >= optionRepliesMax) throw violation('too many exports')
  }
  send(optionRequest(option.abort))
  return entries
}

function* greet(send: Send): Parser {
  const greeting = Buffer.alloc(18)
  yield greeting
  if (greeting.readBigUInt64BE(0) !== magic.greeting) throw violation('it does not greet as an NBD server')
  if (greeting.readBigUInt64BE(8) !== magic.option) throw violation('it speaks the old style')
  const flags = greeting.readUInt16BE(16)
  if (!(flags & handshakeFlag.fixedNewstyle)) throw violation('it does not speak the fixed newstyle')
  const answer = Buffer.alloc(4)
  answer.writeUInt32BE(flags & (handshakeFlag.fixedNewstyle | handshakeFlag.noZeroes))
  send(answer)
}

function* agreeStructuredReplies(send: Send): Parser<boolean> {
  send(optionRequest(option.structuredReply))
  const { type } = yield* optionAnswer(option.structuredReply, 'structured replies', [
    optionError.unsupported,
    optionError.policy
  ])
  if (type === optionReply.ack) return true
  if (type >= optionReply.errorBit) return false
  throw violation('an odd reply to structured replies', { type })
}

function* agreeContexts(
  { exportName, contexts: names }: { readonly exportName: string; readonly contexts: readonly string[] },
  send: Send
): Parser<Map<number, string>> {
  const agreed = new Map<number, string>()
  if (names.length === 0) return agreed
  send(optionRequest(option.setMetaContext, [text(exportName), number32(names.length), ...names.map(text)]))
  for (;;) {
    const { type, payload } = yield* optionAnswer(option.setMetaContext, 'metadata contexts', [
      optionError.unsupported
    ])
    if (type === optionReply.ack || type === optionError.unsupported) return agreed
    if (type !== optionReply.metaContext || payload.length < 4)
      throw violation('an odd reply to metadata contexts', { type })
    const id = payload.readUInt32BE(0)
    const name = payload.toString('utf8', 4)
    if (!names.includes(name) || agreed.has(id) || [...agreed.values()].includes(name))
      throw violation('it selected a context that was not asked for, or one twice')
    agreed.set(id, name)
  }
}

type ExportFacts = Omit<ExportInfo, 'structuredReplies' | 'contexts'>

function* enter(exportName: string, send: Send): Parser<ExportFacts> {
  const wish = Buffer.alloc(4)
  wish.writeUInt16BE(1, 0)
  wish.writeUInt16BE(info.blockSize, 2)
  send(optionRequest(option.go, [text(exportName), wish]))
  let facts: { sizeBytes: number; flags: number } | undefined
  let sizes = { blockBytesLeast: 1, payloadBytesMax: payloadBytesMaxDefault }
  for (let replies = 0; replies < optionRepliesMax; replies++) {
    const { type, payload } = yield* optionAnswer(option.go, `the export "${exportName}"`)
    if (type === optionReply.ack) {
      if (facts === undefined) throw violation('it told nothing of the export')
      return checked(facts, sizes)
    }
    if (type !== optionReply.info || payload.length < 2)
      throw violation('an odd reply to the export', { type })
    const kind = payload.readUInt16BE(0)
    if (kind === info.export) facts = readExportInfo(payload)
    else if (kind === info.blockSize) sizes = readBlockSizes(payload)
  }
  throw violation('endless words about the export')
}

function readExportInfo(payload: Buffer): { sizeBytes: number; flags: number } {
  if (payload.length !== 12) throw violation('information of the wrong length', { length: payload.length })
  const size = payload.readBigUInt64BE(2)
  if (size > BigInt(exportBytesMax)) throw violation('an export that is too large', { size: String(size) })
  return { sizeBytes: Number(size), flags: payload.readUInt16BE(10) }
}

function readBlockSizes(payload: Buffer): { blockBytesLeast: number; payloadBytesMax: number } {
  if (payload.length !== 14) throw violation('block sizes of the wrong length', { length: payload.length })
  const blockBytesLeast = payload.readUInt32BE(2)
  const preferred = payload.readUInt32BE(6)
  const largest = payload.readUInt32BE(10)
  const powerOfTwo = blockBytesLeast > 0 && Number.isInteger(Math.log2(blockBytesLeast))
  if (!powerOfTwo || blockBytesLeast > 65_536 || preferred < blockBytesLeast || largest < blockBytesLeast)
    throw violation('block sizes that cannot be', { least: blockBytesLeast, preferred, largest })
  const bounded = Math.min(largest, payloadBytesMaxDefault)
  const payloadBytesMax = bounded - (bounded % blockBytesLeast)
  if (payloadBytesMax < payloadBytesMaxLeast)
    throw new HostletError('E_UNSUPPORTED', `the NBD server takes only ${largest} bytes a request`)
  return { blockBytesLeast, payloadBytesMax }
}

function checked(
  { sizeBytes, flags }: { readonly sizeBytes: number; readonly flags: number },
  sizes: { readonly blockBytesLeast: number; readonly payloadBytesMax: number }
): ExportFacts {
  if (!(flags & transmissionFlag.hasFlags)) throw violation('flags of the export without their mark')
  const has = (flag: number) => (flags & flag) !== 0
  return {
    ...sizes,
    sizeBytes,
    readOnly: has(transmissionFlag.readOnly),
    canFlush: has(transmissionFlag.sendFlush),
    canWriteZeroes: has(transmissionFlag.sendWriteZeroes),
    multipleConnections: has(transmissionFlag.multipleConnections)
  }
}

interface OptionAnswer {
  readonly type: number
  readonly payload: Buffer
}

/** One reply to an option. Errors are thrown but for the `tolerated` ones. */
function* optionAnswer(asked: number, what: string, tolerated: readonly number[] = []): Parser<OptionAnswer> {
  const head = Buffer.alloc(20)
  yield head
  if (head.readBigUInt64BE(0) !== magic.optionReply) throw violation('a reply to an option without its magic')
  if (head.readUInt32BE(8) !== asked) throw violation('a reply to an option that was not asked')
  const type = head.readUInt32BE(12)
  const length = head.readUInt32BE(16)
  if (length > optionReplyBytesMax) throw violation('a reply to an option that is too long', { length })
  const payload = Buffer.alloc(length)
  yield payload
  if (type === optionReply.ack && length !== 0) throw violation('an acknowledgement with a payload')
  if (type >= optionReply.errorBit && !tolerated.includes(type))
    throw optionFault(what, type, printable(payload))
  return { type, payload }
}

function readExport(payload: Buffer): ExportEntry {
  const length = payload.length < 4 ? -1 : payload.readUInt32BE(0)
  if (length < 0 || length > stringBytesMax || length > payload.length - 4)
    throw violation('a name of the wrong length')
  return {
    name: payload.toString('utf8', 4, 4 + length),
    description: printable(payload.subarray(4 + length))
  }
}

function optionRequest(asked: number, parts: readonly Uint8Array[] = []): Buffer {
  const head = Buffer.alloc(16)
  head.writeBigUInt64BE(magic.option, 0)
  head.writeUInt32BE(asked, 8)
  head.writeUInt32BE(
    parts.reduce((sum, part) => sum + part.length, 0),
    12
  )
  return Buffer.concat([head, ...parts])
}

function text(value: string): Buffer {
  const bytes = Buffer.from(value)
  return Buffer.concat([number32(bytes.length), bytes])
}

function number32(value: number): Buffer {
  const bytes = Buffer.alloc(4)
  bytes.writeUInt32BE(value)
  return bytes
}

/** Throws E_BAD_REQUEST for what could not be sent. */
export function checkWanted(exportName: string, contexts: readonly string[]): void {
  const long = [exportName, ...contexts].find((name) => Buffer.byteLength(name) > stringBytesMax)
  if (long !== undefined || contexts.length > contextsMax)
    throw new HostletError(
      'E_BAD_REQUEST',
      `names of NBD exports and contexts have at most ${stringBytesMax} bytes, and there are at most ${contextsMax} contexts`
    )
}
