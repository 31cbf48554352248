// The operator's WebSocket to a console: who may open one, and one socket from its ticket to its end.

import type { IncomingMessage } from 'node:http'
import type { Duplex } from 'node:stream'
import { type WebSocket, WebSocketServer } from 'ws'
import { asHostletError, HostletError } from '../../errors.ts'
import type { Clock } from '../../lib/clock.ts'
import type { Logger } from '../../lib/log.ts'
import type { ApiTier } from '../../protocol/api.ts'
import {
  type ConsoleEnd,
  type ConsoleMessage,
  consoleSocketPath,
  consoleSubprotocol,
  consoleWindowBytes,
  type OperatorMessage,
  operatorMessages
} from '../../protocol/console.ts'
import { compile } from '../../protocol/validate.ts'
import type { Audit } from '../audit.ts'
import { type Actor, assertTier } from '../http/api-keys.ts'
import type { Asking } from '../http/authenticate.ts'
import { answerTo } from '../http/errors.ts'
import { FailureLimiter, failureWindowMs } from '../http/failure-limiter.ts'
import { answerAndEnd } from '../raw-answer.ts'
import type { ConsoleSessions, OperatorEnd } from './sessions.ts'

/** Sockets of operators that this process holds; more are refused. */
export const socketsMax = 256
/** How long a new socket may take to show its ticket. */
export const attachTimeoutMs = 10_000
/** How often an operator is asked for a sign of life, and looked at whether the key is still good. */
export const checkIntervalMs = 15_000
/** Signs of life in a row that may fail to come. */
export const missedMax = 2
const closeWaitMs = 2_000
const textBytesMax = 1_024

export interface ConsoleSocketsOptions {
  readonly sessions: ConsoleSessions
  /** Throws E_AUTH. Asked again while the socket is open. */
  identify(asking: Asking): Promise<Actor>
  readonly tier: ApiTier
  readonly audit: Pick<Audit, 'call' | 'record'>
  readonly clock: Clock
  readonly log: Logger
}

const readMessage = compile(
  {
    type: 'object',
    required: ['type'],
    discriminator: { propertyName: 'type' },
    oneOf: [...operatorMessages]
  },
  'message of the operator'
)

export class ConsoleSockets {
  readonly #options: ConsoleSocketsOptions
  readonly #server: WebSocketServer
  readonly #open = new Set<OperatorSocket>()
  readonly #failures: FailureLimiter
  #isOpen = true

  constructor(options: ConsoleSocketsOptions) {
    this.#options = options
    this.#failures = new FailureLimiter(options.clock)
    this.#server = new WebSocketServer({
      noServer: true,
      clientTracking: false,
      maxPayload: consoleWindowBytes,
      perMessageDeflate: false,
      handleProtocols: (offered) => (offered.has(consoleSubprotocol) ? consoleSubprotocol : false)
    })
  }

  /** Whether an upgrade to this path is one to a console. */
  owns(path: string): boolean {
    return path.startsWith(consoleSocketPath)
  }

  async upgrade(request: IncomingMessage, socket: Duplex, head: Buffer): Promise<void> {
    const startedAt = this.#options.clock.monotonic()
    const asking = askingOf(request)
    try {
      const session = sessionOf(request)
      const actor = await this.#admit(asking)
      this.#server.handleUpgrade(request, socket, head, (webSocket) => {
        const operator = new OperatorSocket({ ...this.#options, webSocket, session, actor, asking })
        this.#open.add(operator)
        void operator.ended.then(() => this.#open.delete(operator))
      })
    } catch (thrown) {
      await this.#refuse(asHostletError(thrown), { asking, startedAt, socket })
    }
  }

  /** Ends every session, and waits a moment for the sockets to close. */
  async close(): Promise<void> {
    this.#isOpen = false
    this.#options.sessions.close()
    const ended = [...this.#open].map((operator) => operator.stop())
    await Promise.all(ended)
    this.#server.close()
  }

  async #admit(asking: Asking): Promise<Actor> {
    const { headers } = asking
    // A browser says which page asks, and no other page than one of this scheduler's may.
    if (headers.origin !== undefined && headers.origin !== `https://${headers.host ?? ''}`)
      throw new HostletError('E_AUTH', 'a page of another site asked for this. Open the dashboard itself.', {
        details: { reason: 'cross-site' }
      })
    const actor = await this.#options.identify(asking)
    assertTier(actor, this.#options.tier)
    const offered = String(headers['sec-websocket-protocol'] ?? '').split(/\s*,\s*/)
    if (!offered.includes(consoleSubprotocol))
      throw new HostletError(
        'E_UNSUPPORTED',
        `the subprotocol ${consoleSubprotocol} is not offered. Upgrade the older of the two.`
      )
    if (!this.#isOpen || this.#open.size >= socketsMax)
      throw new HostletError('E_UNAVAILABLE', 'the scheduler takes no more consoles now. Try again later.')
    return actor
  }

  async #refuse(
    fault: HostletError,
    { asking, startedAt, socket }: { asking: Asking; startedAt: number; socket: Duplex }
  ): Promise<void> {
    const { audit, clock, log } = this.#options
    const { status, error } = answerTo(fault)
    const isFlood = status === 401 && this.#failures.exceeds(asking.address)
    const call = {
      request: '',
      from: asking.address,
      method: 'GET',
      route: `${consoleSocketPath}{session}`,
      status: isFlood ? 429 : status,
      code: error.code,
      durationMs: Math.round(clock.monotonic() - startedAt)
    }
    if (error.code === 'E_INTERNAL') log.error({ error: fault }, 'console socket could not be opened')
    else log.warn({ remote: asking.address, code: error.code, ...error.details }, 'console socket refused')
    await audit.call(call).catch((thrown) => log.error({ error: asHostletError(thrown) }, 'not audited'))
    answerAndEnd(socket, call.status, isFlood ? tooMany : error)
  }
}

const tooMany = new HostletError(
  'E_BUSY',
  `too many failed attempts from this address. Wait ${failureWindowMs / 1_000} s.`
)

interface OperatorSocketOptions extends ConsoleSocketsOptions {
  readonly webSocket: WebSocket
  readonly session: string
  readonly actor: Actor
  readonly asking: Asking
}

class OperatorSocket {
  readonly #options: OperatorSocketOptions
  readonly #ended = Promise.withResolvers<void>()
  /** By which the sessions know this socket: it ends no session to which another is attached. */
  readonly #end: OperatorEnd
  #state: 'new' | 'attaching' | 'attached' | 'ended' = 'new'
  #timer: Disposable
  #missed = 0
  /** Since the session was last looked at. */
  #hasTyped = false

  constructor(options: OperatorSocketOptions) {
    const { webSocket, clock } = options
    this.#options = options
    this.#end = {
      from: options.asking.address,
      show: (data) => webSocket.send(data),
      tell: (message) => this.#tell(message),
      closed: (end) => this.#finish(end)
    }
    this.#timer = clock.timer(attachTimeoutMs, () => this.#refuse('no ticket came in time'))
    // ws hands over a message as one Buffer unless told otherwise.
    webSocket.on('message', (data, isBinary) => this.#onMessage(data as Buffer, isBinary))
    webSocket.on('pong', () => {
      this.#missed = 0
    })
    webSocket.on('error', () => undefined)
    webSocket.on('close', (code) => this.#onClose(code))
  }

  /** Resolves when the socket is closed. */
  get ended(): Promise<void> {
    return this.#ended.promise
  }

  async stop(): Promise<void> {
    this.#finish({ why: 'stopping', message: 'the scheduler stops' })
    await this.ended
  }

  #onMessage(data: Buffer, isBinary: boolean): void {
    const { sessions, session } = this.#options
    if (this.#state === 'ended') return
    if (isBinary) {
      this.#hasTyped = true
      if (this.#state === 'attached') sessions.type(session, data)
      else this.#refuse('something was typed before the session was attached')
      return
    }
    try {
      this.#onText(parse(data))
    } catch (thrown) {
      this.#refuse(asHostletError(thrown).message)
    }
  }

  #onText(message: OperatorMessage): void {
    const { sessions, session } = this.#options
    if (message.type === 'attach' && this.#state === 'new') void this.#attach(message.ticket)
    else if (message.type === 'credit' && this.#state === 'attached') sessions.credit(session, message.bytes)
    else this.#refuse(`"${message.type}" was not expected now`)
  }

  async #attach(ticket: string): Promise<void> {
    const { sessions, session, actor } = this.#options
    this.#state = 'attaching'
    this.#timer[Symbol.dispose]()
    try {
      await sessions.attach(session, ticket, actor, this.#end)
      if (this.#state === 'attaching') this.#state = 'attached'
      // It may have closed meanwhile.
      else this.#leave(lostOperator)
      this.#watch()
    } catch (thrown) {
      this.#finish(await this.#refusedTo(asHostletError(thrown)))
    }
  }

  /** A wrong ticket, or somebody else's session, is written down. */
  async #refusedTo(error: HostletError): Promise<ConsoleEnd> {
    const { session, actor, asking, log, audit } = this.#options
    if (error.code === 'E_INTERNAL') {
      log.error({ session, error }, 'console could not be attached')
      return { why: 'unknown', message: 'the scheduler failed on this. Its log has the reason' }
    }
    log.warn({ session, key: actor.id, code: error.code }, 'console not attached')
    if (error.code !== 'E_AUTH') return { why: 'unknown', message: error.message }
    const who = { key: actor.id, note: actor.note, from: asking.address }
    await audit.record('console.refused', { session, ...who, code: error.code, message: error.message })
    return { why: 'revoked', message: error.message }
  }

  #watch(): void {
    if (this.#state !== 'attached') return
    this.#timer = this.#options.clock.timer(checkIntervalMs, () => void this.#check())
  }

  async #check(): Promise<void> {
    const { identify, asking, actor, webSocket, tier } = this.#options
    if (this.#missed >= missedMax) {
      this.#leave({ why: 'lost', message: 'the operator is not heard any more' })
      return
    }
    this.#missed++
    webSocket.ping()
    try {
      const now = await identify({ ...asking, isBackground: !this.#hasTyped })
      this.#hasTyped = false
      assertTier(now, tier)
      if (now.id !== actor.id) throw new HostletError('E_AUTH', 'it is another key now')
    } catch (thrown) {
      // A store that cannot be read just now says nothing of the key.
      if (asHostletError(thrown).code === 'E_AUTH')
        this.#leave({ why: 'revoked', message: 'the key of the operator is not good any more' })
    }
    this.#watch()
  }

  #onClose(code: number): void {
    const left = code === 1000 || code === 1001
    this.#leave(left ? { why: 'left', message: 'the operator left' } : lostOperator)
    this.#state = 'ended'
    this.#timer[Symbol.dispose]()
    this.#ended.resolve()
  }

  #refuse(message: string): void {
    const end = { why: 'protocol', message } as const
    this.#leave(end)
    this.#finish(end)
  }

  /** Ends the session where it is this socket that is attached to it. */
  #leave(end: ConsoleEnd): void {
    this.#options.sessions.leave(this.#options.session, this.#end, end)
  }

  #tell(message: ConsoleMessage): void {
    const { webSocket } = this.#options
    if (webSocket.readyState === webSocket.OPEN) webSocket.send(JSON.stringify(message))
  }

  /** Says why, and closes; one that does not close is cut. */
  #finish(end: ConsoleEnd): void {
    if (this.#state === 'ended') return
    const { webSocket, clock } = this.#options
    this.#state = 'ended'
    this.#timer[Symbol.dispose]()
    this.#tell({ type: 'closed', ...end, message: end.message.slice(0, 1_024) })
    webSocket.close(1000)
    this.#timer = clock.timer(closeWaitMs, () => webSocket.terminate())
  }
}

const lostOperator = { why: 'lost', message: 'the connection to the operator was lost' } as const

function parse(data: Buffer): OperatorMessage {
  if (data.length > textBytesMax)
    throw new HostletError('E_BAD_REQUEST', `a message of ${data.length} bytes of text`)
  let value: unknown
  try {
    value = JSON.parse(data.toString('utf8'))
  } catch (cause) {
    throw new HostletError('E_BAD_REQUEST', 'message of the operator: not JSON', { cause })
  }
  return readMessage(value) as OperatorMessage
}

function askingOf({ method = 'GET', headers, socket }: IncomingMessage): Asking {
  return { method, headers, address: socket.remoteAddress ?? '' }
}

function sessionOf({ url = '' }: IncomingMessage): string {
  const session = url.slice(consoleSocketPath.length)
  if (/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/.test(session)) return session
  throw new HostletError(
    'E_NOT_FOUND',
    `a console's socket is ${consoleSocketPath} and the id of its session`
  )
}
