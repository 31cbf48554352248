/** Channel: one socket to libvirtd as a sequence of frames, with keepalive, back-pressure and one end. */
import { Buffer } from 'node:buffer'
import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import type { Clock } from './clock.ts'
import { ConnectionError } from './errors.ts'
import { encodeHeader, type Frame, FrameParser, messageTypes, statuses } from './framing.ts'
import { programs } from './protocol/procedure.ts'

/** virkeepaliveprotocol.x */
const PING = 1
const PONG = 2
/** Every stream of the connection may wait for the same drain. */
const SOCKET_LISTENERS_MAX = 32
const READ_BYTES = 131_072

export interface KeepAlive {
  /** Silence after which a ping is sent. */
  readonly intervalMs: number
  /** Pings without any answer after which the connection is given up. */
  readonly unansweredMax: number
}

/** A connected socket, and who takes what it receives: bytes in memory that the next read overwrites. */
export interface Wire {
  readonly socket: Socket
  onData: (chunk: Buffer) => void
}

export interface ChannelHandlers {
  onFrame(frame: Frame): void
  /** Called once. `reason` is null where this side asked for the end. */
  onClosed(reason: ConnectionError | null): void
}

export class Channel {
  readonly #socket: Socket
  readonly #clock: Clock
  readonly #handlers: ChannelHandlers
  readonly #parser: FrameParser
  readonly #pausedBy = new Set<unknown>()
  #cancelTick: () => void = () => {}
  #heard = false
  #unanswered = 0
  #closed = false

  constructor(wire: Wire, { clock, handlers }: { clock: Clock; handlers: ChannelHandlers }) {
    const { socket } = wire
    this.#socket = socket
    this.#clock = clock
    this.#handlers = handlers
    this.#parser = new FrameParser((frame) => this.#receive(frame))
    socket.setMaxListeners(SOCKET_LISTENERS_MAX)
    wire.onData = (chunk) => this.#read(chunk)
    socket.on('error', (cause) => this.destroy(lost(`the socket failed (${codeOf(cause)})`, cause)))
    socket.on('close', () => this.destroy(lost('libvirtd closed the connection')))
  }

  get closed(): boolean {
    return this.#closed
  }

  /** Whether the socket holds more than it wants: then wait with `onceDrained` before sending more. */
  get congested(): boolean {
    return this.#socket.writableNeedDrain
  }

  send(frame: Buffer): void {
    if (!this.#closed) this.#socket.write(frame)
  }

  /** Header and data in one system call, without copying the data together. */
  sendParts(header: Buffer, data: Uint8Array): void {
    if (this.#closed) return
    this.#socket.cork()
    this.#socket.write(header)
    this.#socket.write(data)
    this.#socket.uncork()
  }

  onceDrained(callback: () => void): () => void {
    this.#socket.once('drain', callback)
    return () => this.#socket.off('drain', callback)
  }

  /** Stops reading until every holder has resumed. The peer's frames wait, its pings included. */
  pause(holder: unknown): void {
    if (this.#closed) return
    this.#pausedBy.add(holder)
    this.#socket.pause()
  }

  resume(holder: unknown): void {
    if (!this.#pausedBy.delete(holder) || this.#pausedBy.size > 0 || this.#closed) return
    this.#heard = true
    this.#socket.resume()
  }

  startKeepAlive(keepAlive: KeepAlive): void {
    this.#scheduleTick(keepAlive)
  }

  /** Ends the connection at once; the first reason counts. */
  destroy(reason: ConnectionError | null): void {
    if (this.#closed) return
    this.#closed = true
    this.#cancelTick()
    this.#socket.destroy()
    this.#handlers.onClosed(reason)
  }

  #read(chunk: Buffer): void {
    this.#heard = true
    try {
      this.#parser.push(chunk)
    } catch (error) {
      if (!(error instanceof ConnectionError)) throw error
      this.destroy(error)
    }
  }

  #receive(frame: Frame): void {
    if (this.#closed) return
    if (frame.program !== programs.keepalive) this.#handlers.onFrame(frame)
    else if (frame.procedure === PING) this.send(keepAliveFrame(PONG))
  }

  #scheduleTick(keepAlive: KeepAlive): void {
    this.#cancelTick = this.#clock.after(keepAlive.intervalMs, () => this.#tick(keepAlive))
  }

  #tick(keepAlive: KeepAlive): void {
    this.#unanswered = this.#heard || this.#pausedBy.size > 0 ? 0 : this.#unanswered + 1
    if (this.#unanswered > keepAlive.unansweredMax) {
      const silentMs = this.#unanswered * keepAlive.intervalMs
      this.destroy(lost(`libvirtd was silent for ${silentMs} ms and answered no ping`))
      return
    }
    if (!this.#heard) this.send(keepAliveFrame(PING))
    this.#heard = false
    this.#scheduleTick(keepAlive)
  }
}

/**
 * Opens the first of the sockets that exists. Throws `E_UNAVAILABLE` if none answers, `E_AUTH` if one may not be
 * opened, `E_CANCELLED` when the signal is aborted.
 */
export async function openSocket(socketPaths: readonly string[], signal: AbortSignal): Promise<Wire> {
  const failures: string[] = []
  for (const path of socketPaths) {
    const wire = wireTo(path)
    try {
      await once(wire.socket, 'connect', { signal })
      return wire
    } catch (cause) {
      wire.socket.destroy()
      if (signal.aborted)
        throw new ConnectionError('E_CANCELLED', `connecting to ${path} was given up`, { cause })
      if (codeOf(cause) === 'EACCES') throw forbidden(path, cause)
      failures.push(`${path} (${codeOf(cause)})`)
    }
  }
  const tried = failures.join(', ')
  throw new ConnectionError('E_UNAVAILABLE', `no libvirt daemon answers at ${tried}. Is libvirtd running?`)
}

/** One buffer for all reads: a new one for each would cost more than a short reply's decoding. */
function wireTo(path: string): Wire {
  const buffer = Buffer.allocUnsafe(READ_BYTES)
  const callback = (bytes: number) => {
    wire.onData(buffer.subarray(0, bytes))
    return true
  }
  const wire: Wire = { socket: connect({ path, onread: { buffer, callback } }), onData: () => {} }
  return wire
}

function keepAliveFrame(procedure: number): Buffer {
  const header = { program: programs.keepalive, procedure, type: messageTypes.message, serial: 0 }
  return encodeHeader({ ...header, status: statuses.ok }, 0)
}

function lost(what: string, cause?: unknown): ConnectionError {
  return new ConnectionError('E_INTERRUPTED', `connection to libvirt lost: ${what}`, { cause })
}

function forbidden(path: string, cause: unknown): ConnectionError {
  const advice = 'Add this user to the group "libvirt" and log in again'
  return new ConnectionError('E_AUTH', `no permission to open ${path}. ${advice}`, { cause })
}

function codeOf(cause: unknown): string {
  return cause instanceof Error && 'code' in cause ? String(cause.code) : String(cause)
}
