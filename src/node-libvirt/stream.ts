/** LibvirtStream: the bytes behind a call (volume upload and download, console) as a Node stream. */
import { Buffer } from 'node:buffer'
import { Duplex, type DuplexOptions } from 'node:stream'
import type { Clock } from './clock.ts'
import { ConnectionError, type LibvirtError } from './errors.ts'
import { type Frame, messageTypes, statuses } from './framing.ts'
import { decodeLibvirtError } from './remote-error.ts'
import { decodeAll, hyper, struct, uint, XdrError } from './xdr/schema.ts'

/** libvirt's VIR_NET_MESSAGE_LEGACY_PAYLOAD_MAX: data in one stream message. */
export const STREAM_DATA_BYTES_MAX = 262_120
const BUFFERED_BYTES_MAX = 1_048_576
const BUFFERED_CHUNKS_MAX = 16
/** Longest wait for libvirtd to confirm that a stream was given up. */
const ABORT_DEADLINE_MS = 10_000
const EMPTY = Buffer.alloc(0)

/** A run of zeros that was not sent, in streams opened with `sparse`. */
export interface Hole {
  readonly holeBytes: number
}

/** virNetStreamHole. */
export const streamHole = struct({ length: hyper, flags: uint })

export interface StreamOptions {
  /** Which sides the caller sees. */
  readonly readable: boolean
  readonly writable: boolean
  /** Chunks are then Buffers and holes. The call's own flags must ask for holes too, or libvirtd hangs up. */
  readonly sparse: boolean
  /** Longest wait for the server to send, take or confirm something; null for none (a console). */
  readonly stallMs: number | null
  readonly signal: AbortSignal | undefined
}

/** What a stream needs of its connection. */
export interface StreamPort {
  readonly clock: Clock
  readonly congested: boolean
  send(status: number, data: Uint8Array): void
  sendHole(lengthBytes: number): void
  onceDrained(callback: () => void): () => void
  pause(): void
  resume(): void
  /** The server does not know the stream any more. */
  forget(): void
}

type Callback = (error?: Error | null) => void

/** `finishing`: we confirmed the end and await the same; `aborting`: we gave up and discard what still comes. */
type State = 'open' | 'finishing' | 'aborting' | 'closed'

export class LibvirtStream extends Duplex {
  readonly #port: StreamPort
  readonly #options: StreamOptions
  readonly #settled = Promise.withResolvers<void>()
  #state: State = 'open'
  #finalCallback: Callback | null = null
  #cancelDrain: () => void = () => {}
  #cancelStall: () => void = () => {}

  constructor(port: StreamPort, options: StreamOptions) {
    super(duplexOptions(options))
    this.#port = port
    this.#options = options
    options.signal?.addEventListener('abort', this.#onAbort, { once: true })
  }

  /**
   * Resolves once the server has forgotten the stream, or the connection has ended: what it held is free then. After
   * `destroy` it waits for the server for ten seconds at most.
   */
  get settled(): Promise<void> {
    return this.#settled.promise
  }

  /** Takes a frame of this stream from the server. */
  receive(frame: Frame): void {
    if (this.#state === 'closed') return
    if (frame.status === statuses.error) this.#fail(frame)
    else if (frame.status === statuses.ok) this.#confirmed()
    else if (this.#state === 'aborting') return
    else if (frame.type === messageTypes.hole) this.#receiveHole(frame)
    else if (frame.payload.length === 0) this.#finish()
    else this.#give(Buffer.from(frame.payload))
  }

  /** The connection is gone. */
  lose(reason: ConnectionError): void {
    this.#close()
    this.destroy(reason)
  }

  override _read(): void {
    this.#port.resume()
    if (this.#state === 'open') this.#awaitProgress('data')
  }

  override _write(chunk: Uint8Array | Hole, _encoding: string, callback: Callback): void {
    if (this.#state !== 'open') callback(ended('libvirtd has ended the stream'))
    else if (chunk instanceof Uint8Array) this.#sendFrom(chunk, 0, callback)
    else this.#sendHole(chunk, callback)
  }

  override _final(callback: Callback): void {
    if (this.#state === 'closed') {
      callback()
    } else {
      this.#finalCallback = callback
      this.#finish()
    }
  }

  override _destroy(error: Error | null, callback: Callback): void {
    this.#options.signal?.removeEventListener('abort', this.#onAbort)
    this.#cancelDrain()
    this.#cancelStall()
    this.#port.resume()
    if (this.#state === 'open') this.#port.send(statuses.error, EMPTY)
    if (this.#state !== 'closed') {
      this.#state = 'aborting'
      this.#cancelStall = this.#port.clock.after(ABORT_DEADLINE_MS, () => this.#close())
    }
    callback(error)
  }

  #onAbort = (): void => {
    const cause = this.#options.signal?.reason
    this.destroy(new ConnectionError('E_CANCELLED', 'the stream was cancelled', { cause, sent: true }))
  }

  #give(chunk: Buffer | Hole): void {
    if (!this.#options.readable) {
      this.destroy(malformed('data in an upload'))
      return
    }
    this.#cancelStall()
    if (!this.push(chunk)) this.#port.pause()
  }

  #receiveHole(frame: Frame): void {
    if (!this.#options.sparse) {
      this.destroy(malformed('a hole, which was not asked for'))
      return
    }
    try {
      const { length } = decodeAll(streamHole, frame.payload)
      const holeBytes = Number(length)
      if (holeBytes < 0 || !Number.isSafeInteger(holeBytes)) throw malformed(`a hole of ${length} bytes`)
      if (holeBytes > 0) this.#give({ holeBytes })
    } catch (error) {
      this.destroy(error instanceof XdrError ? malformed('a broken hole', error) : (error as Error))
    }
  }

  /** Confirms the end, whoever reached it first; without this libvirtd leaks a descriptor a stream. */
  #finish(): void {
    if (this.#state !== 'open') return
    this.#state = 'finishing'
    this.#port.send(statuses.ok, EMPTY)
    this.#awaitProgress('the end')
  }

  #confirmed(): void {
    const state = this.#state
    this.#close()
    if (state === 'aborting') return
    if (state === 'open') {
      this.destroy(malformed('the end of a stream that was not finished'))
      return
    }
    this.#finalCallback?.()
    if (this.#options.readable) this.push(null)
  }

  #fail(frame: Frame): void {
    const aborting = this.#state === 'aborting'
    this.#close()
    if (!aborting) this.destroy(errorOf(frame))
  }

  #close(): void {
    this.#state = 'closed'
    this.#cancelStall()
    this.#port.resume()
    this.#port.forget()
    this.#settled.resolve()
  }

  /** Sends in pieces that fit a message, each when the socket has taken the one before. */
  #sendFrom(chunk: Uint8Array, offset: number, callback: Callback): void {
    let start = offset
    while (start < chunk.length && !this.#port.congested) {
      this.#port.send(statuses.continue, chunk.subarray(start, start + STREAM_DATA_BYTES_MAX))
      start += STREAM_DATA_BYTES_MAX
    }
    if (start < chunk.length) this.#onceDrained(() => this.#sendFrom(chunk, start, callback))
    else if (this.#port.congested) this.#onceDrained(callback)
    else callback()
  }

  #sendHole({ holeBytes }: Hole, callback: Callback): void {
    if (!this.#options.sparse || !Number.isSafeInteger(holeBytes) || holeBytes < 0) {
      const message = 'a hole needs a stream opened with sparse, and a length in bytes'
      callback(new ConnectionError('E_BAD_REQUEST', message))
      return
    }
    if (holeBytes > 0) this.#port.sendHole(holeBytes)
    callback()
  }

  #onceDrained(callback: () => void): void {
    this.#awaitProgress('room for data')
    this.#cancelDrain = this.#port.onceDrained(() => {
      this.#cancelStall()
      if (this.#state === 'open') callback()
      // Else destroying the stream has ended the write.
    })
  }

  #awaitProgress(what: string): void {
    const { stallMs } = this.#options
    this.#cancelStall()
    if (stallMs === null) return
    this.#cancelStall = this.#port.clock.after(stallMs, () => {
      const message = `libvirt's stream made no progress for ${stallMs} ms, waiting for ${what}`
      this.destroy(new ConnectionError('E_TIMEOUT', message, { sent: true }))
    })
  }
}

function duplexOptions({ readable, writable, sparse }: StreamOptions): DuplexOptions {
  const sides = { readable, writable }
  return {
    ...sides,
    allowHalfOpen: !(readable && writable),
    objectMode: sparse,
    highWaterMark: sparse ? BUFFERED_CHUNKS_MAX : BUFFERED_BYTES_MAX
  }
}

function errorOf(frame: Frame): LibvirtError | ConnectionError {
  try {
    return decodeLibvirtError(frame.payload)
  } catch (cause) {
    return malformed('an error that does not decode', cause)
  }
}

function malformed(what: string, cause?: unknown): ConnectionError {
  const message = `libvirtd sent ${what} in a stream`
  return new ConnectionError('E_PROTOCOL', message, { cause, sent: true })
}

function ended(message: string): ConnectionError {
  return new ConnectionError('E_INTERRUPTED', message, { sent: true })
}
