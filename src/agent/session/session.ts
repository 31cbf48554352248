// Drives the session machine: timers, the socket, and messages in both directions.

import { asHostletError, HostletError } from '../../errors.ts'
import type { Clock } from '../../lib/clock.ts'
import type { Logger } from '../../lib/log.ts'
import {
  type AgentMessage,
  type AgentMessageOf,
  closeCodes,
  type SchedulerMessage,
  type SchedulerMessageOf
} from '../../protocol/messages.ts'
import { parseSchedulerMessage } from '../../protocol/validate.ts'
import {
  firstState,
  type Intervals,
  type SessionEffect,
  type SessionEvent,
  step,
  type TimerName
} from './machine.ts'
import type { Outbox } from './outbox.ts'
import type { SchedulerSocket, SocketHandlers } from './socket.ts'

export interface SessionOptions {
  /** Addresses of the scheduler in order of preference; at least one. */
  readonly urls: readonly string[]
  /** Throws when it cannot even begin, such as for an expired certificate of our own. */
  connect(url: string, handlers: SocketHandlers): SchedulerSocket
  readonly outbox: Outbox
  readonly clock: Clock
  readonly log: Logger
  readonly random?: () => number
  hello(): AgentMessageOf<'hello'>
  heartbeat(): AgentMessageOf<'heartbeat'>
  onCommand(jws: string, approvals: readonly string[]): void
  onResultAcknowledged(command: string): void
  onBackupsAcknowledged(operations: readonly string[]): void
  onErasuresAcknowledged(certificates: readonly string[]): void
  onDiskKeys(message: DiskKeysMessage): void
  /** About the head of the audit trail. */
  onAudit?(message: AuditMessage): void
  onTrust(statements: readonly string[]): void
  /** A binary message: a frame of a console. Throws E_BAD_REQUEST for what is none. */
  onBytes?(data: Buffer): void
  onIntervals(intervals: Intervals): void
  /** The scheduler's clock at its welcome, in milliseconds since the epoch. */
  onWelcome(sentAt: number): void
  /** The scheduler's clock when it heard the heartbeat that was sent at that time by ours. */
  onClock?(sentAt: number, heartbeatSentAt: number): void
  /** The scheduler has welcomed this agent. */
  onOnline?(): void
  /** The connection is gone, or never came to be. */
  onOffline?(): void
  /** A connection did not come to be, or was ended, for a reason that waiting does not mend. */
  onRefused?(error: HostletError): void
}

export interface SessionStanding {
  readonly state: 'connected' | 'connecting' | 'away'
  readonly url: string
  /** Connected, or away, since then. */
  readonly since: number
  readonly reason: string | undefined
  readonly retryAt: number | undefined
}

/** Answers about keys of disks. */
export type DiskKeysMessage = SchedulerMessageOf<'disk-keys-ack' | 'disk-keys-gone-ack' | 'disk-keys-grant'>

/** Answers about the audit trail. */
export type AuditMessage = SchedulerMessageOf<'audit-receipt' | 'audit-question' | 'audit-refusal'>

type EffectOf<Name extends SessionEffect['do']> = Extract<SessionEffect, { do: Name }>
type EffectHandlers = { readonly [Name in SessionEffect['do']]: (effect: EffectOf<Name>) => void }
type MessageHandlers = {
  readonly [Name in SchedulerMessage['type']]: (message: SchedulerMessageOf<Name>) => void
}

/** Ends after which another try soon is no use. */
const refusedCloses: ReadonlySet<number> = new Set([
  closeCodes.auth,
  closeCodes.badHello,
  closeCodes.replaced
])
const stopWaitMs = 2_000

export class Session {
  readonly #options: SessionOptions
  readonly #timers = new Map<TimerName, Disposable>()
  readonly #effects: EffectHandlers = {
    connect: () => this.#connect(),
    hello: () => this.#socket?.send(this.#options.hello()),
    heartbeat: () => this.#socket?.send(this.#options.heartbeat()),
    ping: () => this.#socket?.ping(),
    problem: () => this.#socket?.send(problem(this.#fault)),
    resend: () => this.#options.outbox.resend(),
    online: ({ do: _name, ...intervals }) => this.#goOnline(intervals),
    intervals: ({ do: _name, ...intervals }) => this.#options.onIntervals(intervals),
    offline: ({ reason, retryMs }) => this.#goOffline(reason, retryMs),
    close: ({ code, reason }) => this.#socket?.close(code, reason),
    terminate: ({ reason }) => this.#socket?.terminate(reason),
    'set-timer': ({ name, ms }) => this.#setTimer(name, ms),
    'clear-timer': ({ name }) => this.#clearTimer(name)
  }
  readonly #messages: MessageHandlers = {
    welcome: (message) => {
      this.#options.onWelcome(message.sentAt)
      this.#handle(message)
    },
    settings: (message) => this.#handle(message),
    clock: ({ heartbeatSentAt, sentAt }) => this.#options.onClock?.(sentAt, heartbeatSentAt),
    command: ({ jws, approvals }) => this.#options.onCommand(jws, approvals ?? []),
    'result-ack': ({ command }) => this.#options.onResultAcknowledged(command),
    'backups-ack': ({ operations }) => this.#options.onBackupsAcknowledged(operations),
    'erasures-ack': ({ certificates }) => this.#options.onErasuresAcknowledged(certificates),
    'disk-keys-ack': (message) => this.#options.onDiskKeys(message),
    'disk-keys-gone-ack': (message) => this.#options.onDiskKeys(message),
    'disk-keys-grant': (message) => this.#options.onDiskKeys(message),
    'audit-receipt': (message) => this.#options.onAudit?.(message),
    'audit-question': (message) => this.#options.onAudit?.(message),
    'audit-refusal': (message) => this.#options.onAudit?.(message),
    trust: ({ statements }) => this.#options.onTrust(statements),
    problem: ({ error }) => this.#options.log.warn({ error }, 'scheduler reports a problem')
  }
  #state = firstState
  #socket: SchedulerSocket | undefined
  #fault: HostletError | undefined
  #lastReason = ''
  #standing: Pick<SessionStanding, 'since' | 'retryAt'>
  #ended = Promise.withResolvers<void>()

  constructor(options: SessionOptions) {
    this.#options = options
    this.#standing = { since: options.clock.now(), retryAt: undefined }
    if (options.urls.length === 0)
      throw new HostletError(
        'E_BAD_REQUEST',
        'there is no address of a scheduler: enroll the host, or set schedulerUrls'
      )
  }

  get isOnline(): boolean {
    return this.#state.phase === 'online'
  }

  /** For whoever looks: whether it is connected, or since when it is not, why, and when it tries again. */
  get standing(): SessionStanding {
    const waits = this.#state.phase === 'waiting'
    const state = this.isOnline ? 'connected' : waits ? 'away' : 'connecting'
    const { since, retryAt } = this.#standing
    const reason = this.#lastReason === '' ? undefined : this.#lastReason
    return { state, url: this.#url, since, reason, retryAt: waits ? retryAt : undefined }
  }

  /** The host and port that it talks to, or tries to. */
  get peer(): string {
    return new URL(this.#url).host
  }

  start(): void {
    this.#handle({ type: 'start' })
  }

  /** Connects now if it waits to: what it waits for may have come. */
  nudge(): void {
    this.#handle({ type: 'nudge' })
  }

  /** Tells at once what the next heartbeat would tell. */
  beat(): void {
    if (this.isOnline) this.#socket?.send(this.#options.heartbeat())
  }

  /** Sends a binary message; `taken` is called once the system has it. False when there is no connection. */
  sendBytes(data: Buffer, taken?: () => void): boolean {
    return this.isOnline && this.#socket?.sendBytes(data, taken) === true
  }

  /** Opens the connection anew with what the next one is opened with; nothing is lost, and no command waits for long. */
  reconnect(reason: string): void {
    this.#handle({ type: 'reconnect', reason })
  }

  /** Says goodbye and waits a moment for the answer. */
  async stop(): Promise<void> {
    this.#options.outbox.detach()
    this.#handle({ type: 'stop' })
    if (this.#socket === undefined) return
    using _late = this.#options.clock.timer(stopWaitMs, () => {
      this.#socket?.terminate('the agent stops')
      this.#ended.resolve()
    })
    await this.#ended.promise
  }

  #handle(event: SessionEvent): void {
    const { state, effects } = step(this.#state, event, this.#options.urls.length)
    this.#state = state
    for (const effect of effects) this.#perform(effect)
  }

  #perform<Name extends SessionEffect['do']>(effect: EffectOf<Name>): void {
    const perform: (effect: EffectOf<Name>) => void = this.#effects[effect.do as Name]
    perform(effect)
  }

  get #url(): string {
    return this.#options.urls[this.#state.urlIndex] ?? ''
  }

  #connect(): void {
    const url = this.#url
    this.#ended = Promise.withResolvers()
    try {
      const socket = this.#options.connect(url, {
        opened: () => this.#handle({ type: 'opened' }),
        message: (text) => this.#receive(() => this.#dispatch(parseSchedulerMessage(text))),
        bytes: (data) => this.#receive(() => this.#takeBytes(data)),
        pong: () => this.#handle({ type: 'pong' }),
        closed: ({ code, reason, error }) =>
          this.#closed(error ?? closeFault(url, code, reason), refusedCloses.has(code))
      })
      this.#socket = socket
    } catch (error) {
      // In the next turn: the machine is in the middle of an effect.
      queueMicrotask(() => this.#closed(asHostletError(error), true))
    }
  }

  #closed(error: HostletError, refusedClose: boolean): void {
    this.#socket = undefined
    this.#options.outbox.detach()
    this.#options.onOffline?.()
    this.#ended.resolve()
    const random = this.#options.random ?? Math.random
    const refused = refusedClose || error.advice === 'refuse'
    this.#handle({ type: 'closed', reason: error.message, refused, jitter: random() })
    if (refused) this.#options.onRefused?.(error)
  }

  #goOnline(intervals: Intervals): void {
    const { log, outbox, onOnline, onIntervals } = this.#options
    log.info({ url: this.#url }, 'connected to scheduler')
    this.#lastReason = ''
    this.#standing = { since: this.#options.clock.now(), retryAt: undefined }
    onIntervals(intervals)
    if (this.#socket !== undefined) outbox.attach(this.#socket)
    onOnline?.()
  }

  /** Says a reason once, however often it comes again. */
  #goOffline(reason: string, retryMs: number): void {
    const { log, clock } = this.#options
    // The first reason since the last welcome tells since when it is away.
    const since = this.#lastReason === '' ? clock.now() : this.#standing.since
    this.#standing = { since, retryAt: clock.now() + retryMs }
    const fields = { reason, retryMs }
    if (reason === this.#lastReason) log.debug(fields, 'scheduler still away')
    else log.warn(fields, 'scheduler away, trying again')
    this.#lastReason = reason
  }

  #receive(take: () => void): void {
    try {
      take()
    } catch (error) {
      this.#fault = asHostletError(error)
      this.#options.log.warn({ error: this.#fault }, 'unreadable message of the scheduler')
      this.#handle({ type: 'bad-message' })
    }
  }

  #takeBytes(data: Buffer): void {
    if (!this.isOnline || this.#options.onBytes === undefined)
      throw new HostletError('E_BAD_REQUEST', 'message of the scheduler: a binary frame, expected text')
    this.#options.onBytes(data)
    this.#handle({ type: 'heard' })
  }

  #dispatch(message: SchedulerMessage): void {
    const { phase } = this.#state
    if (phase !== 'online' && message.type !== 'welcome' && message.type !== 'problem')
      throw new HostletError('E_BAD_REQUEST', `message of the scheduler: ${message.type} before welcome`)
    if (phase === 'online' && message.type === 'welcome')
      throw new HostletError('E_BAD_REQUEST', 'message of the scheduler: welcome twice')
    this.#handle({ type: 'heard' })
    this.#take(message)
  }

  #take<Name extends SchedulerMessage['type']>(message: SchedulerMessageOf<Name>): void {
    const take: (message: SchedulerMessageOf<Name>) => void = this.#messages[message.type as Name]
    take(message)
  }

  #setTimer(name: TimerName, ms: number): void {
    this.#clearTimer(name)
    const timer = this.#options.clock.timer(ms, () => {
      this.#timers.delete(name)
      this.#handle({ type: 'timer', name })
    })
    this.#timers.set(name, timer)
  }

  #clearTimer(name: TimerName): void {
    this.#timers.get(name)?.[Symbol.dispose]()
    this.#timers.delete(name)
  }
}

function problem(fault: HostletError | undefined): AgentMessage {
  const error = fault ?? new HostletError('E_BAD_REQUEST', 'message of the scheduler: not expected now')
  return { type: 'problem', error: error.toReport() }
}

function closeFault(url: string, code: number, reason: string): HostletError {
  const why = reason === '' ? `close code ${code}` : `${reason} (close code ${code})`
  if (code === closeCodes.replaced)
    return new HostletError(
      'E_CONFLICT',
      `scheduler ${url}: another agent connected as this host. Is a second one running, or was the state directory copied?`
    )
  if (code === closeCodes.auth)
    return new HostletError('E_AUTH', `scheduler ${url} does not accept this host: ${why}`)
  return new HostletError('E_UNAVAILABLE', `scheduler ${url} ended the connection: ${why}`)
}
