/** Framing: bytes of the socket to messages of libvirt's RPC and back, incremental and bounded. */
import { Buffer } from 'node:buffer'
import { ConnectionError } from './errors.ts'
import type { Type } from './xdr/type.ts'
import { XdrWriter } from './xdr/writer.ts'

/** libvirt's VIR_NET_MESSAGE_MAX and the length word in front of it. */
export const FRAME_BYTES_MAX = 33_554_436
export const HEADER_BYTES = 28
const LENGTH_BYTES = 4
/** libvirt's VIR_NET_MESSAGE_NUM_FDS_MAX: the most file descriptors that a message may announce. */
const DESCRIPTORS_MAX = 32
/** A frame that arrives in pieces gets at most this much memory at first, then doubles: its length alone costs little. */
const PARTIAL_BYTES_INITIAL = 1_048_576
const PROTOCOL_VERSION = 1

/** Values of virNetMessageType. */
export const messageTypes = {
  call: 0,
  reply: 1,
  message: 2,
  stream: 3,
  callWithDescriptors: 4,
  replyWithDescriptors: 5,
  hole: 6
} as const

/** Values of virNetMessageStatus. */
export const statuses = { ok: 0, error: 1, continue: 2 } as const

export interface FrameHeader {
  /** Number of the RPC program. */
  readonly program: number
  readonly procedure: number
  /** One of `messageTypes`. */
  readonly type: number
  readonly serial: number
  /** One of `statuses`. */
  readonly status: number
}

export interface Frame extends FrameHeader {
  /** Valid until the handler returns: the next read may overwrite it. Copy what is kept. */
  readonly payload: Buffer
}

/** Splits what a server sends into frames. After it threw, the connection is of no use: the bytes are lost. */
export class FrameParser {
  readonly #onFrame: (frame: Frame) => void
  readonly #frameBytesMax: number
  #partial = Buffer.alloc(0)
  #partialBytes = 0
  #bytesToSkip = 0

  constructor(onFrame: (frame: Frame) => void, { frameBytesMax = FRAME_BYTES_MAX } = {}) {
    this.#onFrame = onFrame
    this.#frameBytesMax = frameBytesMax
  }

  /** Takes the next bytes, cut anywhere. Throws `E_PROTOCOL` for a frame that libvirt cannot have sent. */
  push(chunk: Buffer): void {
    let offset = 0
    while (offset < chunk.length) {
      if (this.#bytesToSkip > 0) offset += this.#skip(chunk.length - offset)
      else if (this.#partialBytes > 0) offset += this.#fill(chunk, offset)
      else offset += this.#start(chunk, offset)
    }
  }

  #skip(bytesAvailable: number): number {
    const bytes = Math.min(this.#bytesToSkip, bytesAvailable)
    this.#bytesToSkip -= bytes
    return bytes
  }

  /** At a frame's first byte: one that lies whole in the chunk is not copied. */
  #start(chunk: Buffer, offset: number): number {
    const available = chunk.length - offset
    if (available >= LENGTH_BYTES) {
      const length = this.#checkedLength(chunk.readUInt32BE(offset))
      if (available >= length) {
        this.#emit(chunk.subarray(offset, offset + length))
        return length
      }
      this.#partial = Buffer.allocUnsafe(Math.min(length, PARTIAL_BYTES_INITIAL))
      return this.#append(chunk, offset, Math.min(length, available))
    }
    this.#partial = Buffer.allocUnsafe(HEADER_BYTES)
    return this.#append(chunk, offset, available)
  }

  /** Inside a frame: first its length word, then the rest. */
  #fill(chunk: Buffer, offset: number): number {
    const available = chunk.length - offset
    if (this.#partialBytes < LENGTH_BYTES) {
      const taken = this.#append(chunk, offset, Math.min(LENGTH_BYTES - this.#partialBytes, available))
      if (this.#partialBytes === LENGTH_BYTES) this.#checkedLength(this.#partial.readUInt32BE(0))
      return taken
    }
    const length = this.#partial.readUInt32BE(0)
    const taken = this.#append(chunk, offset, Math.min(length - this.#partialBytes, available))
    if (this.#partialBytes === length) this.#finishPartial(length)
    return taken
  }

  #append(chunk: Buffer, offset: number, bytes: number): number {
    const needed = this.#partialBytes + bytes
    if (needed > this.#partial.length) {
      const grown = Buffer.allocUnsafe(
        Math.min(this.#frameBytesMax, Math.max(needed, 2 * this.#partial.length))
      )
      this.#partial.copy(grown, 0, 0, this.#partialBytes)
      this.#partial = grown
    }
    chunk.copy(this.#partial, this.#partialBytes, offset, offset + bytes)
    this.#partialBytes = needed
    return bytes
  }

  #finishPartial(length: number): void {
    const frame = this.#partial.subarray(0, length)
    this.#partial = Buffer.alloc(0)
    this.#partialBytes = 0
    this.#emit(frame)
  }

  #checkedLength(length: number): number {
    if (length < HEADER_BYTES || length > this.#frameBytesMax) {
      throw protocolError(`frame of ${length} bytes, expected ${HEADER_BYTES} to ${this.#frameBytesMax}`)
    }
    return length
  }

  #emit(bytes: Buffer): void {
    const header = decodeHeader(bytes)
    const payload = bytes.subarray(HEADER_BYTES)
    if (header.type !== messageTypes.replyWithDescriptors) {
      this.#onFrame({ ...header, payload })
      return
    }
    // One byte follows the message for each descriptor that was passed along with it.
    this.#bytesToSkip = descriptorCount(payload)
    this.#onFrame({ ...header, type: messageTypes.reply, payload: payload.subarray(LENGTH_BYTES) })
  }
}

/** One frame around a value; throws XdrError if the value is not of that type or too large. */
export function encodeFrame<In>(header: FrameHeader, type: Type<unknown, In>, value: In): Buffer {
  const writer = new XdrWriter({ bytesMax: FRAME_BYTES_MAX - HEADER_BYTES, headroomBytes: HEADER_BYTES })
  type.encode(writer, value)
  const frame = writer.finish()
  writeHeader(frame, header, frame.length)
  return frame
}

/** The header alone, for a payload of `payloadBytes` that is written behind it as it is. */
export function encodeHeader(header: FrameHeader, payloadBytes: number): Buffer {
  const bytes = Buffer.allocUnsafe(HEADER_BYTES)
  writeHeader(bytes, header, HEADER_BYTES + payloadBytes)
  return bytes
}

function writeHeader(target: Buffer, header: FrameHeader, length: number): void {
  target.writeUInt32BE(length, 0)
  target.writeUInt32BE(header.program, 4)
  target.writeUInt32BE(PROTOCOL_VERSION, 8)
  target.writeInt32BE(header.procedure, 12)
  target.writeInt32BE(header.type, 16)
  target.writeUInt32BE(header.serial, 20)
  target.writeInt32BE(header.status, 24)
}

const typesFromServer: ReadonlySet<number> = new Set([
  messageTypes.reply,
  messageTypes.message,
  messageTypes.stream,
  messageTypes.replyWithDescriptors,
  messageTypes.hole
])

function decodeHeader(bytes: Buffer): FrameHeader {
  const version = bytes.readUInt32BE(8)
  const type = bytes.readInt32BE(16)
  const status = bytes.readInt32BE(24)
  if (version !== PROTOCOL_VERSION) throw protocolError(`protocol version ${version}`)
  if (!typesFromServer.has(type)) throw protocolError(`message type ${type}`)
  if (status < statuses.ok || status > statuses.continue) throw protocolError(`message status ${status}`)
  return {
    program: bytes.readUInt32BE(4),
    procedure: bytes.readInt32BE(12),
    type,
    serial: bytes.readUInt32BE(20),
    status
  }
}

function descriptorCount(payload: Buffer): number {
  if (payload.length < LENGTH_BYTES) throw protocolError('reply with descriptors lacks their count')
  const count = payload.readUInt32BE(0)
  if (count > DESCRIPTORS_MAX) throw protocolError(`reply with ${count} descriptors`)
  return count
}

function protocolError(what: string): ConnectionError {
  return new ConnectionError('E_PROTOCOL', `libvirtd sent what is not its protocol: ${what}`)
}
