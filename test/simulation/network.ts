// The network between hosts and scheduler: in order and whole as TCP is, late, cut, one-way, half-open; and somebody in the
// middle who repeats what went by, and cannot sign.

import { EventEmitter } from 'node:events'
import type { WebSocket } from 'ws'
import type { SchedulerSocket, SocketHandlers } from '../../src/agent/session/socket.ts'
import { HostletError } from '../../src/errors.ts'
import type { AgentMessage } from '../../src/protocol/messages.ts'
import type { Random } from './random.ts'
import type { Trace } from './trace.ts'
import type { Life, VirtualTime } from './virtual-time.ts'

/** ws gives an unanswered close so long. */
const closeTimeoutMs = 30_000
/** As TCP's own timers find a dead peer: later than both sides' heartbeats do. */
const connectDelayMs = 20

/** One direction of the way between a host and the scheduler. */
export interface Way {
  blocked: boolean
  readonly pipes: Set<Pipe>
}

export interface Link {
  readonly host: string
  readonly toScheduler: Way
  readonly toHost: Way
  /** Added to each message, uniform up to it. */
  delayMsMax: number
}

export interface NetworkOptions {
  readonly time: VirtualTime
  readonly random: Random
  readonly trace: Trace
}

/** The listening side, while it runs. */
export interface Listener {
  readonly life: Life
  /** Throws why the host is not let in. */
  admit(host: string): Promise<void>
  accept(host: string, socket: WebSocket): void
}

export class Network {
  listener: Listener | undefined
  readonly #options: NetworkOptions
  readonly #links = new Map<string, Link>()
  readonly #connections = new Set<Connection>()

  constructor(options: NetworkOptions) {
    this.#options = options
  }

  link(host: string): Link {
    const known = this.#links.get(host)
    if (known !== undefined) return known
    const way = (): Way => ({ blocked: false, pipes: new Set() })
    const link = { host, toScheduler: way(), toHost: way(), delayMsMax: 20 }
    this.#links.set(host, link)
    return link
  }

  block(host: string, directions: readonly ('toScheduler' | 'toHost')[]): void {
    const link = this.link(host)
    for (const direction of directions) link[direction].blocked = true
  }

  heal(host: string): void {
    const link = this.link(host)
    for (const way of [link.toScheduler, link.toHost]) {
      way.blocked = false
      for (const pipe of way.pipes) pipe.flow()
    }
  }

  /** Connections of a host that are open at either end. */
  connectionsOf(host: string): Connection[] {
    return [...this.#connections].filter((connection) => connection.host === host)
  }

  /** The scheduler's process is gone, and its kernel says so. */
  serverDied(): void {
    for (const connection of this.#connections) connection.serverDied()
  }

  get connections(): number {
    return this.#connections.size
  }

  /** A process of a host dials. `identity` is the host that its certificate names. */
  connect(
    dialler: { host: string; identity: string; life: Life },
    handlers: SocketHandlers
  ): SchedulerSocket {
    const connection = new Connection({
      ...this.#options,
      ...dialler,
      link: this.link(dialler.host),
      handlers,
      onEnd: () => this.#connections.delete(connection)
    })
    this.#connections.add(connection)
    connection.dial(() => this.listener)
    return connection.agent
  }
}

interface Parcel {
  readonly dueAt: number
  readonly bytes: number
  readonly deliver: () => void
}

/** What is on its way in one direction of one connection: never overtaken, held while the way is blocked. */
export class Pipe {
  readonly #options: NetworkOptions
  readonly #way: Way
  readonly #delayMsMax: () => number
  #parcels: Parcel[] = []
  #timer: Disposable | undefined
  #paused = false
  bytes = 0

  constructor(options: NetworkOptions, way: Way, delayMsMax: () => number) {
    this.#options = options
    this.#way = way
    this.#delayMsMax = delayMsMax
    way.pipes.add(this)
  }

  send(bytes: number, deliver: () => void): void {
    const { time, random } = this.#options
    const last = this.#parcels.at(-1)?.dueAt ?? 0
    const dueAt = Math.max(last, time.elapsed + 1 + random.between(0, this.#delayMsMax()))
    this.#parcels.push({ dueAt, bytes, deliver })
    this.bytes += bytes
    this.flow()
  }

  set paused(paused: boolean) {
    this.#paused = paused
    this.flow()
  }

  flow(): void {
    const [head] = this.#parcels
    if (head === undefined || this.#timer !== undefined || this.#way.blocked || this.#paused) return
    this.#timer = this.#options.time.after(head.dueAt - this.#options.time.elapsed, () => this.#arrive())
  }

  /** What the sending machine still holds is lost with it. */
  drop(): void {
    this.#parcels = []
    this.bytes = 0
    this.#timer?.[Symbol.dispose]()
    this.#timer = undefined
  }

  end(): void {
    this.drop()
    this.#way.pipes.delete(this)
  }

  #arrive(): void {
    this.#timer = undefined
    if (this.#way.blocked || this.#paused) return
    const head = this.#parcels.shift()
    if (head !== undefined) {
      this.bytes -= head.bytes
      head.deliver()
    }
    this.flow()
  }
}

interface ConnectionOptions extends NetworkOptions {
  readonly host: string
  readonly identity: string
  readonly life: Life
  readonly link: Link
  readonly handlers: SocketHandlers
  onEnd(): void
}

type Phase = 'connecting' | 'open' | 'closing' | 'closed'

/** One WebSocket with its two ends. Each may think what it likes about the other. */
export class Connection {
  readonly host: string
  readonly identity: string
  readonly agent: SchedulerSocket
  readonly #options: ConnectionOptions
  readonly #toScheduler: Pipe
  readonly #toHost: Pipe
  #phase: Phase = 'connecting'
  #failure: HostletError | undefined
  #server: ServerSocket | undefined
  #listener: Listener | undefined

  constructor(options: ConnectionOptions) {
    this.#options = options
    this.host = options.host
    this.identity = options.identity
    const delayMsMax = () => options.link.delayMsMax
    this.#toScheduler = new Pipe(options, options.link.toScheduler, delayMsMax)
    this.#toHost = new Pipe(options, options.link.toHost, delayMsMax)
    this.agent = this.#agentEnd()
  }

  get isOpen(): boolean {
    return this.#phase === 'open' && this.#server?.isUp === true
  }

  /** Bytes under way to the host, and from it. */
  get bytes(): { toHost: number; toScheduler: number } {
    return { toHost: this.#toHost.bytes, toScheduler: this.#toScheduler.bytes }
  }

  dial(listener: () => Listener | undefined): void {
    this.#toScheduler.send(connectDelayMs, () => {
      const found = listener()
      if (!found?.life.isAlive) return this.#refuse(refusedConnection())
      this.#listener = found
      void this.#greet(found)
    })
  }

  /** Both ends hear of it at once, as when a middlebox resets. */
  reset(): void {
    this.resetAgentEnd()
    this.resetServerEnd()
  }

  /** Only the host hears of it: the scheduler goes on believing in it. */
  resetAgentEnd(): void {
    this.#endAgent({ code: 1006, reason: '' }, lostConnection())
    this.#toScheduler.drop()
  }

  /** Only the scheduler hears of it. */
  resetServerEnd(): void {
    this.#server?.end(1006)
    this.#toHost.drop()
  }

  /** The process at the host's end was killed: its kernel says so, after what was sent. */
  agentDied(): void {
    if (this.#phase === 'closed') return
    this.#phase = 'closed'
    this.#toScheduler.send(0, () => this.#server?.end(1006))
    this.#tidy()
  }

  /** The whole machine of the host went: nobody says anything. */
  agentVanished(): void {
    this.#phase = 'closed'
    this.#toScheduler.drop()
    this.#tidy()
  }

  serverDied(): void {
    if (this.#server?.isUp !== true) return
    this.#server.isUp = false
    this.#toHost.send(0, () => this.#endAgent({ code: 1006, reason: '' }, lostConnection()))
    this.#tidy()
  }

  /** Somebody in the middle says something to the host. */
  inject(text: string): void {
    this.#deliverToAgent(() => this.#options.handlers.message(text))
  }

  async #greet(listener: Listener): Promise<void> {
    try {
      await listener.admit(this.identity)
    } catch (error) {
      return this.#toHost.send(200, () => this.#refuse(error as HostletError))
    }
    if (!listener.life.isAlive) return
    const server = new ServerSocket({
      pipe: this.#toHost,
      time: this.#options.time,
      life: listener.life,
      onText: (text) =>
        this.#toHost.send(text.length, () =>
          this.#deliverToAgent(() => {
            this.#note(`<- ${shown(text)}`)
            this.#options.handlers.message(text)
          })
        ),
      onClose: (code, reason) => this.#toHost.send(8, () => this.#closedByServer(code, reason)),
      onEnd: () => this.#tidy(),
      onPause: (paused) => {
        this.#toScheduler.paused = paused
      }
    })
    this.#server = server
    listener.accept(this.identity, server as unknown as WebSocket)
    this.#toHost.send(100, () => {
      if (this.#phase !== 'connecting') return
      this.#phase = 'open'
      if (this.#options.life.isAlive) this.#options.handlers.opened()
    })
  }

  #agentEnd(): SchedulerSocket {
    const connection = this
    return {
      get isOpen() {
        return connection.#phase === 'open' && connection.#options.life.isAlive
      },
      get bufferedBytes() {
        return connection.#options.link.toScheduler.blocked ? connection.#toScheduler.bytes : 0
      },
      send: (message) => this.#send(message),
      // No session on a console is opened here.
      sendBytes: () => false,
      ping: () => {
        if (this.#phase === 'open')
          this.#toScheduler.send(6, () => {
            if (this.#server?.isUp === true)
              this.#toHost.send(6, () => this.#deliverToAgent(() => this.#options.handlers.pong()))
          })
      },
      close: (code, reason) => this.#closeByAgent(code, reason),
      terminate: (reason) => {
        this.#failure ??= new HostletError('E_TIMEOUT', `wss://scheduler: ${reason}`)
        this.#toScheduler.send(0, () => this.#server?.end(1006))
        this.#options.time.after(0, () => this.#endAgent({ code: 1006, reason: '' }, this.#failure))
      }
    }
  }

  #send(message: AgentMessage): void {
    if (this.#phase !== 'open' || !this.#options.life.isAlive) return
    const text = JSON.stringify(message)
    this.#toScheduler.send(text.length, () => {
      if (this.#server?.isUp !== true || this.#listener?.life.isAlive !== true) return
      this.#note(`-> ${shown(text)}`)
      this.#server.emit('message', Buffer.from(text), false)
    })
  }

  #closeByAgent(code: number, reason: string): void {
    if (this.#phase !== 'open') return
    this.#phase = 'closing'
    this.#toScheduler.send(8, () => {
      this.#server?.end(code)
      this.#toHost.send(8, () => this.#endAgent({ code, reason }, undefined))
    })
    this.#options.time.after(closeTimeoutMs, () => this.#endAgent({ code: 1006, reason: '' }, undefined))
  }

  #closedByServer(code: number, reason: string): void {
    this.#toScheduler.send(8, () => this.#server?.end(code))
    this.#endAgent({ code, reason }, undefined)
  }

  #refuse(error: HostletError): void {
    this.#endAgent({ code: 1006, reason: '' }, error)
  }

  #endAgent({ code, reason }: { code: number; reason: string }, error: HostletError | undefined): void {
    if (this.#phase === 'closed') return
    this.#phase = 'closed'
    this.#tidy()
    if (!this.#options.life.isAlive) return
    this.#note(`connection ends ${code} ${error?.code ?? ''}`)
    this.#options.handlers.closed({ code, reason, error: this.#failure ?? error })
  }

  #deliverToAgent(deliver: () => void): void {
    if ((this.#phase === 'open' || this.#phase === 'closing') && this.#options.life.isAlive) deliver()
  }

  #tidy(): void {
    if (this.#phase === 'closed' && this.#server?.isUp !== true) this.#options.onEnd()
  }

  #note(text: string): void {
    this.#options.trace.note(this.host, text)
  }
}

/** The scheduler's end, as much of ws as AgentConnection uses. */
interface ServerSocketOptions {
  readonly pipe: Pipe
  readonly time: VirtualTime
  readonly life: Life
  onText(text: string): void
  onClose(code: number, reason: string): void
  onEnd(): void
  onPause(paused: boolean): void
}

class ServerSocket extends EventEmitter {
  readonly OPEN = 1
  isUp = true
  #isClosing = false
  readonly #options: ServerSocketOptions

  constructor(options: ServerSocketOptions) {
    super()
    this.#options = options
  }

  get readyState(): number {
    return this.isUp && !this.#isClosing ? 1 : 3
  }

  get bufferedAmount(): number {
    return this.#options.pipe.bytes
  }

  send(text: string, done: (error?: Error) => void): void {
    if (this.readyState !== 1) return void queueMicrotask(() => done(new Error('not open')))
    this.#options.onText(text)
    queueMicrotask(() => done())
  }

  close(code: number, reason: string): void {
    if (this.readyState !== 1) return
    this.#isClosing = true
    this.#options.onClose(code, reason)
    this.#options.time.after(closeTimeoutMs, () => this.end(1006))
  }

  terminate(): void {
    if (!this.isUp) return
    this.#options.onClose(1006, '')
    this.#options.time.after(0, () => this.end(1006))
  }

  pause(): void {
    this.#options.onPause(true)
  }

  resume(): void {
    this.#options.onPause(false)
  }

  end(code: number): void {
    if (!this.isUp) return
    this.isUp = false
    this.#options.onEnd()
    if (this.#options.life.isAlive) this.emit('close', code, Buffer.alloc(0))
  }
}

/** A message without what differs from run to run by chance of keys: signatures and certificates. */
function shown(text: string): string {
  const message = JSON.parse(text) as Record<string, unknown>
  const { type } = message
  if (type === 'command') return `command ${commandId(String(message.jws))}`
  if (type === 'result') {
    const { command, outcome, error } = message.result as {
      command: string
      outcome: string
      error?: { code: string; message: string }
    }
    return `result ${command} ${outcome} ${error === undefined ? '' : `${error.code} ${error.message}`}`
  }
  if (type === 'inventory') return `inventory ${JSON.stringify(message.vms)}`
  if (type === 'ack' || type === 'refusal' || type === 'result-ack' || type === 'event' || type === 'problem')
    return text
  return String(type)
}

export function commandId(jws: string): string {
  try {
    return String(JSON.parse(Buffer.from(jws.split('.')[1] ?? '', 'base64url').toString()).id)
  } catch {
    return 'unreadable'
  }
}

function refusedConnection(): HostletError {
  return new HostletError('E_UNAVAILABLE', 'nobody listens at wss://scheduler')
}

function lostConnection(): HostletError {
  return new HostletError('E_UNAVAILABLE', 'the connection was reset')
}
