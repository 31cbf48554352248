// One agent's connection: hello first, then its messages in order, commands out, and a watch that notices silence.

import { randomUUID } from 'node:crypto'
import type { WebSocket } from 'ws'
import { asHostletError, HostletError } from '../../errors.ts'
import type { Clock } from '../../lib/clock.ts'
import type { Logger } from '../../lib/log.ts'
import {
  type AgentMessageOf,
  type CloseReason,
  closeCodes,
  protocolVersion,
  type SchedulerMessage
} from '../../protocol/messages.ts'
import type { Witness } from '../audit.ts'
import { clonedReason, clonedRefusal } from '../identity/cloned.ts'
import type { Store } from '../store/store.ts'
import { deliver } from './delivery.ts'
import { handleMessage, type Session } from './handlers.ts'
import { readHello, readMessage } from './hello.ts'
import { Inbox } from './inbox.ts'
import { Outgoing } from './outgoing.ts'
import { TrustLink, type TrustSource } from './trust-link.ts'

/** How long a new connection may take to say hello. */
export const helloTimeoutMs = 10_000
/** Heartbeats that may be missed before the host counts as away. */
export const heartbeatsMissedMax = 3
/** Answers to pings are dropped while more than this waits for an agent: they are only signs of life. */
const pongBytesMax = 1024 * 1024
/** How often an agent is told the time: clocks drift slowly, and a step is noticed soon enough. */
export const clockIntervalMs = 60_000
/** Messages in a row that could not be understood before the connection is closed. */
export const badMessagesMax = 5

/** Who takes binary messages of agents. */
export interface AgentFrames {
  /** Throws E_BAD_REQUEST or E_AUTH. */
  take(host: string, bytes: Buffer): void
  /** The host's connection is gone, or another took its place. */
  gone(host: string): void
}

export interface ConnectionOptions {
  readonly socket: WebSocket
  readonly host: string
  readonly store: Store
  readonly clock: Clock
  readonly log: Logger
  readonly witness: Witness
  /** What the host is told of trust. */
  readonly trust: TrustSource
  /** Of this fleet. */
  readonly trustDomain: string
  readonly schedulerVersion: string
  readonly heartbeatIntervalMs: number
  readonly metricsIntervalMs: number
  readonly frames?: AgentFrames
  /** The agent has said hello: from now on this is the host's connection. */
  onReady(connection: AgentConnection): void
  onClosed(connection: AgentConnection): void
  /** Another run of the agent, which was heard since this one was, is no restart: two machines use the identity. */
  onCloned(host: string): void
}

export class AgentConnection {
  readonly host: string
  readonly #options: ConnectionOptions
  readonly #id = randomUUID()
  readonly #inbox: Inbox<{ data: Buffer; isBinary: boolean }>
  readonly #outgoing: Outgoing
  readonly #session: Session
  readonly #trust: TrustLink
  readonly #log: Logger
  #watch: Disposable
  /** `ended`: hung up on; what still comes is not looked at. */
  #state: 'hello' | 'ready' | 'ended' = 'hello'
  #isOpen = true
  #badInARow = 0
  /** Since the last message that was handled: no frame speaks for another. */
  #badFrames = 0
  #awayReason: string | undefined
  readonly #closed = Promise.withResolvers<void>()
  /** Which run of the agent said hello. */
  #instance = ''
  #delivery: { again: boolean } | undefined
  #clockToldAt = Number.NEGATIVE_INFINITY

  constructor(options: ConnectionOptions) {
    const { socket, host, store, clock, trust, trustDomain, witness } = options
    this.host = host
    this.#options = options
    this.#log = options.log.child({ host })
    this.#outgoing = new Outgoing(socket, () => this.cut('it does not read what is sent to it'))
    this.#inbox = new Inbox({
      handle: (item) => this.#receive(item.data, item.isBinary),
      pause: () => socket.pause(),
      resume: () => socket.resume()
    })
    this.#trust = new TrustLink({
      host,
      source: trust,
      log: this.#log,
      now: () => clock.now(),
      send: (message) => this.#outgoing.send(message)
    })
    this.#session = {
      host,
      connection: this.#id,
      store,
      witness,
      get trust() {
        return { authorities: trust.authorities, trustDomain }
      },
      trustLink: this.#trust,
      log: this.#log,
      now: () => clock.now(),
      instance: () => this.#instance,
      send: (message) => this.#outgoing.send(message),
      isClockDue: () => this.#isClockDue(),
      wake: () => this.wake(),
      wakeAfter: (ms) => void clock.timer(ms, () => this.wake())
    }
    this.#watch = clock.timer(helloTimeoutMs, () => this.close('badHello', 'no hello came in time'))
    // ws hands over a message as one Buffer unless told otherwise.
    socket.on('message', (data, isBinary) => this.#onMessage(data as Buffer, isBinary))
    socket.on('ping', (data) => {
      if (socket.bufferedAmount < pongBytesMax) socket.pong(data)
    })
    socket.on('error', (error) => this.#onError(error))
    socket.on('close', (code) => this.#onClose(code))
  }

  /** Another connection of the same host has said hello. */
  replace(): void {
    this.close('replaced', 'a newer connection of the host took over')
  }

  /** Hangs up; what still comes is not looked at. */
  close(why: CloseReason, reason: string): void {
    if (!this.#end(reason)) return
    this.#options.socket.close(closeCodes[why], reason)
  }

  /** Sends what waits for this host; returns at once. */
  wake(): void {
    if (!this.isReady) return
    if (this.#delivery !== undefined) this.#delivery.again = true
    else void this.#deliverAll()
  }

  /** The trust of the fleet has changed. */
  async tellTrust(): Promise<void> {
    if (this.isReady) await this.#trust.tell()
  }

  /** Sends a binary message. False when the connection takes none. */
  sendBytes(bytes: Buffer): boolean {
    return this.isReady && this.#outgoing.sendBytes(bytes)
  }

  /** Ends the connection without a goodbye. */
  cut(reason: string): void {
    this.#end(reason)
    this.#options.socket.terminate()
  }

  /** Which of the host's connections this is, as the store knows it. */
  get id(): string {
    return this.#id
  }

  /** Resolves when the connection has ended, its end is recorded, and what came is handled. */
  async settled(): Promise<void> {
    await this.#closed.promise
    await this.#inbox.settled()
  }

  /** Open, and no hello was taken yet. */
  get isUnheard(): boolean {
    return this.#state === 'hello' && this.#isOpen
  }

  /** It has said hello, and neither side has ended it. */
  get isReady(): boolean {
    return this.#state === 'ready' && this.#isOpen
  }

  #onMessage(data: Buffer, isBinary: boolean): void {
    if (this.#state === 'ready') this.#watchForSilence()
    if (this.#state === 'ready' && isBinary && this.#options.frames !== undefined) this.#takeFrame(data)
    else this.#inbox.push({ data, isBinary }, data.length)
  }

  /** Past the inbox: it is handed on at once, and is bounded by credit. */
  #takeFrame(data: Buffer): void {
    try {
      this.#options.frames?.take(this.host, data)
    } catch (thrown) {
      this.#refuseFrame(asHostletError(thrown))
    }
  }

  /** Nothing slows frames down, so they are counted at once, and the first of them is logged for all. */
  #refuseFrame(error: HostletError): void {
    if (this.#badFrames === 0) this.#logProblem(error)
    this.#badFrames++
    void this.#outgoing.send(problemOf(error))
    if (this.#badFrames >= badMessagesMax) this.close('badMessages', 'too many bad messages in a row')
  }

  /** What came before the socket closed is handled even after it: it may be a result. */
  async #receive(data: Buffer, isBinary: boolean): Promise<void> {
    if (this.#state === 'ended') return
    try {
      if (this.#state === 'hello') await this.#hello(readHello(data, isBinary, this.host))
      else await handleMessage(readMessage(data, isBinary), this.#session)
      this.#badInARow = 0
      this.#badFrames = 0
    } catch (thrown) {
      await this.#answerProblem(asHostletError(thrown))
    }
  }

  async #answerProblem(error: HostletError): Promise<void> {
    this.#logProblem(error)
    await this.#outgoing.send(problemOf(error))
    if (this.#state === 'hello') {
      this.close(isAboutIdentity(error) ? 'auth' : 'badHello', 'hello was not accepted')
      return
    }
    if (error.advice !== 'refuse') return
    this.#badInARow++
    if (this.#badInARow >= badMessagesMax) this.close('badMessages', 'too many bad messages in a row')
  }

  #logProblem(error: HostletError): void {
    if (error.code === 'E_INTERNAL') this.#log.error({ error }, 'message could not be handled')
    else this.#log.warn({ code: error.code, reason: error.message }, 'message refused')
  }

  async #hello({ agentVersion, instance, verbs, trustSerial }: AgentMessageOf<'hello'>): Promise<void> {
    const { store, clock, onReady } = this.#options
    const connectedAt = clock.now()
    if (await store.hosts.isReturning(this.host, instance)) {
      await store.hosts.cloned(this.host, connectedAt)
      this.#options.onCloned(this.host)
      throw clonedRefusal(this.host)
    }
    await store.hosts.connected(this.host, {
      connection: this.#id,
      connectedAt,
      agentVersion,
      instance,
      verbs
    })
    // Looked at after that: whoever revokes a host from here on finds it connected, and cuts it off.
    const record = await store.hosts.find(this.host)
    if (record?.revokedAt !== undefined) this.close('auth', 'the host was revoked')
    if (record?.clonedAt !== undefined) this.close('auth', clonedReason)
    const statements = await this.#trust.begin(trustSerial)
    if (this.#state !== 'hello' || !this.#isOpen) {
      await store.hosts.away(this.host, this.#id, this.#awayReason ?? 'the connection was lost')
      return
    }
    this.#state = 'ready'
    this.#instance = instance
    this.#watchForSilence()
    this.#log.info({ agentVersion }, 'host connected')
    // At once, so that of two connections the one whose hello came last is the host's; the welcome still goes out first.
    onReady(this)
    const welcomed = this.#outgoing.send(this.#welcome())
    // Ahead of every command: one may be signed by a key that the host is only told of now.
    if (statements !== undefined) await this.#outgoing.send(statements)
    await welcomed
    await this.#trust.remind()
    this.wake()
  }

  #welcome(): SchedulerMessage {
    const { schedulerVersion, heartbeatIntervalMs, metricsIntervalMs, clock } = this.#options
    return {
      type: 'welcome',
      protocol: protocolVersion,
      schedulerVersion,
      sentAt: clock.now(),
      heartbeatIntervalMs,
      metricsIntervalMs
    }
  }

  #isClockDue(): boolean {
    const now = this.#options.clock.monotonic()
    if (now - this.#clockToldAt < clockIntervalMs) return false
    this.#clockToldAt = now
    return true
  }

  #watchForSilence(): void {
    const { clock, heartbeatIntervalMs } = this.#options
    this.#watch[Symbol.dispose]()
    // A silent agent would not answer a close frame either.
    this.#watch = clock.timer(heartbeatIntervalMs * heartbeatsMissedMax, () =>
      this.cut(`it missed ${heartbeatsMissedMax} heartbeats`)
    )
  }

  async #deliverAll(): Promise<void> {
    const { store, clock } = this.#options
    const delivery = { again: true }
    this.#delivery = delivery
    try {
      while (delivery.again && this.isReady) {
        delivery.again = false
        await deliver({
          host: this.host,
          connection: this.#id,
          instance: this.#instance,
          commands: store.commands,
          approvals: store.approvals,
          now: () => clock.now(),
          isOpen: () => this.isReady,
          send: (message) => this.#outgoing.send(message)
        })
      }
    } catch (error) {
      this.#log.error(
        { error: asHostletError(error) },
        'commands could not be delivered, the next heartbeat tries again'
      )
    } finally {
      this.#delivery = undefined
    }
  }

  #onError(error: Error & { code?: string }): void {
    this.#awayReason ??= `the connection failed (${error.code ?? error.message})`
    this.#log.warn({ code: error.code ?? error.name }, 'connection failed')
  }

  /** False when it has ended before. */
  #end(reason: string): boolean {
    if (this.#state === 'ended') return false
    this.#state = 'ended'
    this.#log.info({ reason }, 'closing the connection')
    this.#awayReason ??= reason
    return true
  }

  #onClose(code: number): void {
    this.#isOpen = false
    this.#watch[Symbol.dispose]()
    this.#options.onClosed(this)
    void this.#recordAway(this.#awayReason ?? `the connection ended (${code})`).then(this.#closed.resolve)
  }

  async #recordAway(reason: string): Promise<void> {
    try {
      await this.#options.store.hosts.away(this.host, this.#id, reason)
      this.#log.info({ reason }, 'host disconnected')
    } catch (error) {
      this.#log.error({ error: asHostletError(error) }, 'the end of a connection could not be recorded')
    }
  }
}

function problemOf(error: HostletError): SchedulerMessage {
  return { type: 'problem', error: error.code === 'E_INTERNAL' ? internalReport : error.toReport() }
}

function isAboutIdentity({ code, details }: HostletError): boolean {
  return code === 'E_AUTH' || details.reason === 'cloned-host'
}

const internalReport = new HostletError(
  'E_INTERNAL',
  'the scheduler failed on this message. Its log has the reason.'
).toReport()
