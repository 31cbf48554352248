// One connection to an NBD server: many requests in flight, each with a deadline, and memory that is let go before its request ends.

import type { Socket } from 'node:net'
import { HostletError } from '../../errors.ts'
import type { Clock } from '../../lib/clock.ts'
import { startDeadline } from '../../lib/deadline.ts'
import { lost, violation } from './faults.ts'
import { Feed, type Parser } from './feed.ts'
import { type ExportInfo, handshake, type Send } from './handshake.ts'
import { command, errorNumber } from './protocol.ts'
import { replies } from './replies.ts'
import { type Request, requestHead } from './requests.ts'
import { type NbdAddress, openSocket } from './socket.ts'

export interface ChannelOptions {
  readonly address: NbdAddress
  readonly exportName: string
  readonly contexts: readonly string[]
  readonly clock: Clock
  /** For the handshake as a whole, and from the sending of a request to the end of its reply. */
  readonly deadlineMs: number
}

/** QEMU works on as many at a time and leaves the rest in the socket. */
export const requestsInFlightMax = 16
const requestsWaitingMax = 4_096
/** An aborted request whose memory the kernel may still use waits so long for it; then the connection is closed. */
const letGoMs = 1_000

interface Entry {
  readonly request: Request
  readonly resolve: () => void
  readonly reject: (reason: unknown) => void
  readonly signal: AbortSignal
  readonly onAbort: () => void
  sentAt: number
  /** Its payload is still with the kernel or in the socket's queue. */
  sending: boolean
  settled: boolean
}

export class Channel {
  /** Connects and agrees. Throws E_UNAVAILABLE, E_TIMEOUT, E_PROTOCOL, E_NOT_FOUND and what else a server may refuse with. */
  static async open(options: ChannelOptions, signal: AbortSignal): Promise<Channel> {
    const channel = new Channel(options)
    const { clock, deadlineMs: ms } = options
    using deadline = startDeadline({ clock, ms, what: 'to agree with the NBD server', signal })
    const abort = () => channel.#fail(deadline.signal.reason)
    if (deadline.signal.aborted) abort()
    deadline.signal.addEventListener('abort', abort, { once: true })
    try {
      await channel.#ready.promise
      return channel
    } finally {
      deadline.signal.removeEventListener('abort', abort)
    }
  }

  readonly #clock: Clock
  readonly #deadlineMs: number
  readonly #ready = Promise.withResolvers<void>()
  readonly #closed = Promise.withResolvers<void>()
  readonly #pending = new Map<number, Entry>()
  readonly #waiting = new Set<Entry>()
  /** Over, but their memory is still with the kernel or in the socket's queue. */
  readonly #holding = new Set<Entry>()
  readonly #socket: Socket
  readonly #feed: Feed
  #info: ExportInfo | undefined
  #failure: HostletError | undefined
  #cookie = 0
  #watchdog: Disposable | undefined

  private constructor({ address, exportName, contexts, clock, deadlineMs }: ChannelOptions) {
    this.#clock = clock
    this.#deadlineMs = deadlineMs
    // Options go out when the socket is connected, since the server speaks first.
    this.#feed = new Feed(this.#conversation({ exportName, contexts }, (bytes) => this.#socket.write(bytes)))
    this.#socket = openSocket(address, {
      buffer: () => this.#feed.space(),
      callback: (bytes) => this.#onBytes(bytes)
    })
    this.#socket.on('error', (cause) => this.#fail(lost(cause.message, cause)))
    this.#socket.on('end', () => this.#fail(lost('the server closed it')))
    this.#socket.on('close', () => {
      this.#fail(lost('it was closed'))
      this.#closed.resolve()
    })
  }

  get info(): ExportInfo {
    if (this.#info === undefined) throw new HostletError('E_INTERNAL', 'an NBD connection before its start')
    return this.#info
  }

  get failed(): boolean {
    return this.#failure !== undefined
  }

  /** Requests that are sent or wait to be. */
  get load(): number {
    return this.#pending.size + this.#waiting.size
  }

  /**
   * Asks, and resolves when all of the answer is there. Rejects with the server's error; with the signal's reason, and then
   * nothing touches the request's memory any more; with E_BUSY when too many wait; with why the connection ended.
   */
  ask(request: Request, signal: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      if (signal.aborted) return reject(signal.reason)
      if (this.#failure !== undefined) return reject(lost(this.#failure.message, this.#failure))
      if (this.#waiting.size >= requestsWaitingMax)
        return reject(
          new HostletError('E_BUSY', `${requestsWaitingMax} requests wait for the NBD server already`)
        )
      const entry: Entry = {
        ...{ request, resolve, reject, signal, sentAt: 0, sending: false, settled: false },
        onAbort: () => this.#abort(entry)
      }
      signal.addEventListener('abort', entry.onAbort, { once: true })
      if (this.#pending.size < requestsInFlightMax) this.#send(entry)
      else this.#waiting.add(entry)
    })
  }

  /** Says goodbye when nothing is in flight, and closes. What is in flight rejects with E_UNAVAILABLE. */
  async close(): Promise<void> {
    if (this.#failure === undefined && this.#info !== undefined && this.#pending.size === 0)
      this.#socket.write(requestHead(0, command.disconnect, 0, 0))
    this.#fail(lost('it was closed here'))
    await this.#closed.promise
  }

  *#conversation(
    wanted: { readonly exportName: string; readonly contexts: readonly string[] },
    send: Send
  ): Parser {
    this.#info = yield* handshake(wanted, send)
    this.#ready.resolve()
    yield* replies(this.#info, {
      find: (cookie) => this.#pending.get(cookie)?.request,
      finished: (cookie) => this.#finished(cookie)
    })
  }

  #onBytes(bytes: number): boolean {
    try {
      this.#feed.advance(bytes)
    } catch (error) {
      this.#fail(error instanceof HostletError ? error : violation('a reply that cannot be read'))
      return false
    }
    // The kernel has come back from every buffer that it was given before: what is read next goes to `space()` of now.
    for (const entry of this.#holding) if (entry.request.kind === 'read') this.#letGo(entry)
    return true
  }

  #send(entry: Entry): void {
    const { request } = entry
    do this.#cookie = (this.#cookie + 1) >>> 0
    while (this.#pending.has(this.#cookie))
    this.#pending.set(this.#cookie, entry)
    entry.sentAt = this.#clock.monotonic()
    this.#watchdog ??= this.#clock.timer(this.#deadlineMs, () => this.#watch())
    const head = requestHead(this.#cookie, request.type, request.offset, request.length)
    const payload = request.kind === 'plain' ? request.payload : undefined
    if (payload === undefined) this.#socket.write(head)
    else this.#sendWith(entry, head, payload)
  }

  #sendWith(entry: Entry, head: Uint8Array, payload: Uint8Array): void {
    entry.sending = true
    this.#socket.cork()
    this.#socket.write(head)
    this.#socket.write(payload, () => {
      entry.sending = false
      if (this.#holding.has(entry)) this.#letGo(entry)
    })
    this.#socket.uncork()
  }

  #finished(cookie: number): void {
    const entry = this.#pending.get(cookie)
    if (entry === undefined) return
    this.#pending.delete(cookie)
    const { fault } = entry.request
    if (entry.sending) this.#holding.add(entry)
    else this.#letGo(entry)
    if (fault?.details.error === errorNumber.shutdown) this.#fail(lost('the server shuts down', fault))
    const [next] = this.#waiting
    if (next === undefined) return
    this.#waiting.delete(next)
    this.#send(next)
  }

  #abort(entry: Entry): void {
    const { request } = entry
    request.abandoned = true
    const waited = this.#waiting.delete(entry)
    const filling = request.kind === 'read' && this.#feed.fills(request.target)
    if (filling) this.#feed.divert()
    if (waited || !(filling || entry.sending)) this.#letGo(entry)
    else this.#hold(entry)
  }

  /** The kernel or the socket's queue may still touch the request's memory. */
  #hold(entry: Entry): void {
    this.#holding.add(entry)
    this.#clock.timer(letGoMs, () => {
      if (this.#holding.has(entry)) this.#fail(lost('an aborted request could not be stopped otherwise'))
    })
  }

  #letGo(entry: Entry): void {
    this.#holding.delete(entry)
    this.#settle(entry, entry.request.abandoned ? entry.signal.reason : entry.request.fault)
  }

  #settle(entry: Entry, error: unknown): void {
    if (entry.settled) return
    entry.settled = true
    entry.signal.removeEventListener('abort', entry.onAbort)
    if (error === undefined) entry.resolve()
    else entry.reject(error)
  }

  /** All have the same deadline, so the oldest is the first in the map. */
  #watch(): void {
    this.#watchdog = undefined
    const [oldest] = this.#pending.values()
    if (oldest === undefined || this.#failure !== undefined) return
    const leftMs = oldest.sentAt + this.#deadlineMs - this.#clock.monotonic()
    if (leftMs > 0) this.#watchdog = this.#clock.timer(leftMs, () => this.#watch())
    else
      this.#fail(
        new HostletError(
          'E_TIMEOUT',
          `the NBD server did not answer a ${oldest.request.name} within ${this.#deadlineMs} ms`
        )
      )
  }

  /** The first failure counts. From here on the kernel touches no memory of any request. */
  #fail(failure: unknown): void {
    if (this.#failure !== undefined) return
    this.#failure =
      failure instanceof HostletError
        ? failure
        : new HostletError('E_CANCELLED', 'aborted', { cause: failure })
    this.#socket.destroy()
    this.#watchdog?.[Symbol.dispose]()
    this.#ready.promise.catch(() => undefined)
    this.#ready.reject(failure)
    for (const entry of [...this.#holding]) this.#letGo(entry)
    for (const entry of [...this.#pending.values(), ...this.#waiting]) this.#settle(entry, this.#failure)
    this.#pending.clear()
    this.#waiting.clear()
  }
}
