/** Connection: one session with libvirtd: calls, events and streams over one socket, from open to close. */
import { homedir } from 'node:os'
import type { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import type { CallInFlight, CallOptions } from './calls.ts'
import { type KeepAlive, openSocket, type Wire } from './channel.ts'
import { type Clock, systemClock } from './clock.ts'
import { ConnectionError } from './errors.ts'
import type { EventDeclaration } from './event-kinds.ts'
import type { SubscribeOptions, Subscription } from './events.ts'
import { authenticate, type HandshakeCall, openHypervisor, type ServerFacts } from './handshake.ts'
import type { Procedure } from './protocol/procedure.ts'
import { Session } from './session.ts'
import type { Hole, LibvirtStream } from './stream.ts'
import { resolveUri } from './uri.ts'
import type { AnyType, Infer, InferInput } from './xdr/schema.ts'

const OPEN_DEADLINE_MS = 15_000
const CALL_DEADLINE_MS = 30_000
const CLOSE_DEADLINE_MS = 2_000
const STALL_DEADLINE_MS = 60_000
/** As libvirt's own clients: a peer that is silent for half a minute is gone. */
const KEEP_ALIVE: KeepAlive = { intervalMs: 5_000, unansweredMax: 5 }

export interface ConnectOptions {
  /** Gives the opening up; it does not end an open connection. */
  readonly signal?: AbortSignal
  /** For the whole opening: socket, authentication, open. */
  readonly deadlineMs?: number
  /** For calls that state none. */
  readonly callDeadlineMs?: number
  readonly readOnly?: boolean
  /** False for a connection whose streams may stand still for longer than half a minute: see the README. */
  readonly keepAlive?: KeepAlive | false
  /** Hears of what no caller waits for: a lost event, a listener that threw. Default: a process warning. */
  readonly onProblem?: (problem: Error) => void
  readonly clock?: Clock
}

export interface StreamCallOptions extends CallOptions {
  /** Chunks may be `{ holeBytes }`. The call's flags must have the sparse flag too. */
  readonly sparse?: boolean
  /** Milliseconds that the server may keep the transfer standing still. */
  readonly stallMs?: number
}

/** What an upload can send: bytes in any pieces, and holes where it is sparse. */
export type UploadSource = Readable | AsyncIterable<Uint8Array | Hole> | Iterable<Uint8Array | Hole>

/**
 * Opens a URI such as `qemu:///system`. Throws ConnectionError: `E_BAD_REQUEST` or `E_UNSUPPORTED` for the URI,
 * `E_UNAVAILABLE` where no daemon answers, `E_AUTH`, `E_TIMEOUT`, `E_CANCELLED`; or LibvirtError if libvirt refuses.
 */
export async function connect(uri: string, options: ConnectOptions = {}): Promise<Connection> {
  const clock = options.clock ?? systemClock
  const readOnly = options.readOnly ?? false
  const target = resolveUri(uri, { env: process.env, homeDirectory: homedir(), readOnly })
  const deadlineMs = options.deadlineMs ?? OPEN_DEADLINE_MS
  const late = new AbortController()
  const cancelTimer = clock.after(deadlineMs, () => late.abort())
  const signal = options.signal ? AbortSignal.any([options.signal, late.signal]) : late.signal
  try {
    const wire = await openSocket(target.socketPaths, signal)
    return await Connection.open(wire, {
      ...options,
      name: target.name,
      readOnly,
      clock,
      signal,
      deadlineMs
    })
  } catch (cause) {
    if (!late.signal.aborted || options.signal?.aborted) throw cause
    throw new ConnectionError('E_TIMEOUT', `${uri} did not open within ${deadlineMs} ms`, { cause })
  } finally {
    cancelTimer()
  }
}

interface OpenOptions extends ConnectOptions {
  readonly name: string
  readonly readOnly: boolean
  readonly clock: Clock
  readonly signal: AbortSignal
  readonly deadlineMs: number
}

/** Made by `connect`. Dispose it (`await using`) or close it; libvirtd ends what depended on it. */
export class Connection implements AsyncDisposable {
  /** What the server said of itself at the opening. */
  readonly facts: ServerFacts
  readonly #session: Session
  readonly #callDeadlineMs: number

  private constructor(
    session: Session,
    { facts, callDeadlineMs }: { facts: ServerFacts; callDeadlineMs: number }
  ) {
    this.#session = session
    this.facts = facts
    this.#callDeadlineMs = callDeadlineMs
  }

  /** Takes over a connected socket. Use `connect` instead. */
  static async open(wire: Wire, options: OpenOptions): Promise<Connection> {
    const { clock, signal, deadlineMs, callDeadlineMs = CALL_DEADLINE_MS, onProblem = warn } = options
    const session = new Session(wire, { clock, callDeadlineMs, onProblem })
    const call: HandshakeCall = (procedure, args) => callOn(session, procedure, args, { signal, deadlineMs })
    const keepAlive = options.keepAlive ?? KEEP_ALIVE
    try {
      await authenticate(call)
      const target = { uri: options.name, readOnly: options.readOnly, keepAlive: keepAlive !== false }
      const facts = await openHypervisor(call, target)
      if (keepAlive) session.channel.startKeepAlive(keepAlive)
      return new Connection(session, { facts, callDeadlineMs })
    } catch (error) {
      session.channel.destroy(null)
      throw error
    }
  }

  /** Resolves when the connection has ended: with null if it was closed here, else with the reason. */
  get closed(): Promise<ConnectionError | null> {
    return this.#session.closed
  }

  /** How busy the connection is: calls at libvirtd, those of them already given up, and calls not sent yet. */
  get load(): { inFlight: number; abandoned: number; queued: number } {
    return this.#session.calls.load
  }

  /** The calls at libvirtd and for how long, those among them that were given up: which of its parts does not answer. */
  get inFlight(): readonly CallInFlight[] {
    return this.#session.calls.inFlight
  }

  /**
   * Calls a procedure and returns its result. At most four calls run at once, three of low priority among them; the
   * rest wait in bounded queues, those of high priority go first. Throws LibvirtError, or ConnectionError, whose `sent` tells whether libvirtd may have acted. A call that was
   * given up keeps its place among the four until libvirtd answers it.
   */
  call<A extends AnyType, R extends AnyType>(
    procedure: Procedure<A, R>,
    args: InferInput<A>,
    options: CallOptions = {}
  ): Promise<Infer<R>> {
    if (procedure.stream !== null) {
      const message = `procedure ${procedure.number} opens a stream: use download, upload or duplex`
      return Promise.reject(new ConnectionError('E_BAD_REQUEST', message))
    }
    const { signal, deadlineMs = this.#callDeadlineMs } = options
    return callOn(this.#session, procedure, args, { signal, deadlineMs })
  }

  /**
   * Subscribes to an event, of one object or of all. The listener runs while the socket is read: it must not
   * block. Events that overtake the reply to the subscription are delivered too. Dispose what it returns to stop.
   * Subscriptions to the same event and object share one registration, and their listeners get the same payload.
   */
  on<P extends AnyType>(
    event: EventDeclaration<P>,
    listener: (payload: Infer<P>) => void,
    options: SubscribeOptions = {}
  ): Promise<Subscription> {
    return this.#session.events.subscribe(event, listener, options)
  }

  /**
   * Opens a stream to read, as in a volume's download. It ends after libvirtd has confirmed that all was sent, and
   * pauses the whole connection while its reader is slow: give it a connection of its own. Destroying it aborts.
   */
  download<A extends AnyType>(
    procedure: Procedure<A, AnyType>,
    args: InferInput<A>,
    options: StreamCallOptions = {}
  ): Promise<Readable> {
    return this.#openStream(procedure, args, { ...options, readable: true, writable: false })
  }

  /** Sends a source through a stream, as in a volume's upload, and resolves when libvirtd has confirmed all of it. */
  async upload<A extends AnyType>(
    procedure: Procedure<A, AnyType>,
    args: InferInput<A>,
    source: UploadSource,
    options: StreamCallOptions = {}
  ): Promise<void> {
    const stream = await this.#openStream(procedure, args, { ...options, readable: false, writable: true })
    try {
      // A source that hangs in the middle must not hide that the stream has failed.
      await Promise.race([pipeline(source, stream), failureOf(stream)])
    } catch (error) {
      // A pipeline that never began (no such source) has not destroyed it.
      stream.destroy()
      // Until libvirtd has seen the abort the volume is in use, and its owner will want to delete it.
      await stream.settled
      throw error
    }
  }

  /**
   * Opens a stream both ways, as in a domain's console. Ending either side ends both. Its `settled` resolves once libvirtd has
   * forgotten it: what it held is free then.
   */
  duplex<A extends AnyType>(
    procedure: Procedure<A, AnyType>,
    args: InferInput<A>,
    options: CallOptions = {}
  ): Promise<LibvirtStream> {
    return this.#openStream(procedure, args, { ...options, readable: true, writable: true })
  }

  /** Closes in order (CONNECT_CLOSE) within the deadline. Calls under way end with `E_INTERRUPTED`. */
  close({ deadlineMs = CLOSE_DEADLINE_MS }: { readonly deadlineMs?: number } = {}): Promise<void> {
    return this.#session.close(deadlineMs)
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close()
  }

  async #openStream<A extends AnyType>(
    procedure: Procedure<A, AnyType>,
    args: InferInput<A>,
    options: StreamCallOptions & { readonly readable: boolean; readonly writable: boolean }
  ): Promise<LibvirtStream> {
    if (procedure.stream === null) {
      throw new ConnectionError('E_BAD_REQUEST', `procedure ${procedure.number} opens no stream: use call`)
    }
    const interactive = options.readable && options.writable
    return this.#session.streams.open(procedure, args, {
      readable: options.readable,
      writable: options.writable,
      sparse: options.sparse ?? false,
      stallMs: interactive ? null : (options.stallMs ?? STALL_DEADLINE_MS),
      signal: options.signal,
      deadlineMs: options.deadlineMs ?? this.#callDeadlineMs
    })
  }
}

function callOn<A extends AnyType, R extends AnyType>(
  session: Session,
  procedure: Procedure<A, R>,
  args: InferInput<A>,
  { signal, deadlineMs }: { signal: AbortSignal | undefined; deadlineMs: number }
): Promise<Infer<R>> {
  return new Promise((onResult, onError) => {
    session.calls.submit({ procedure, args, signal, deadlineMs, onResult, onError })
  })
}

function failureOf(stream: LibvirtStream): Promise<never> {
  return new Promise((_, reject) => stream.once('error', reject))
}

function warn(problem: Error): void {
  process.emitWarning(problem)
}
