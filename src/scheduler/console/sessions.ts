// Sessions on consoles of VMs as this process knows them: who was granted one, who is attached, and the bytes between the two ends.

import { randomBytes, timingSafeEqual } from 'node:crypto'
import { HostletError } from '../../errors.ts'
import type { Clock } from '../../lib/clock.ts'
import type { Logger } from '../../lib/log.ts'
import {
  type ConsoleEnd,
  type ConsoleFrame,
  type ConsoleMessage,
  type ConsoleMode,
  consolePieces,
  consoleWindowBytes,
  decodeConsoleFrame,
  encodeConsoleFrame,
  VmConsoleResult
} from '../../protocol/console.ts'
import { compile } from '../../protocol/validate.ts'
import type { Witness } from '../audit.ts'
import { type Actor, secretHash } from '../http/api-keys.ts'
import type { CommandEnd } from '../store/fleet-store.ts'
import type { CommandRecord } from '../store/store.ts'

/** Sessions that are granted or attached. */
export const sessionsMax = 1_024
/** Of these, those of one key. */
export const sessionsPerKeyMax = 64
/** Ended sessions of which it is known why they ended; the oldest go first. */
export const endedMax = 1_024
/** How long it is known why a session ended. */
export const endedKeptMs = 300_000
/** How long a session that its host has opened may be attached to; the host itself waits for less. */
export const openedKeptMs = 300_000

const readResult = compile(VmConsoleResult, 'answer of vm.console')

export interface ConsoleSessionsOptions {
  readonly agents: {
    isConnected(host: string): boolean
    /** False when the host is not connected to this process. */
    sendBytes(host: string, bytes: Buffer): boolean
  }
  readonly findCommand: (id: string) => Promise<CommandRecord | undefined>
  readonly witness: Pick<Witness, 'record'>
  readonly clock: Clock
  readonly log: Logger
}

export interface GrantedConsole {
  readonly session: string
  readonly command: string
  readonly vm: string
  readonly host: string
  readonly mode: ConsoleMode
  readonly actor: Pick<Actor, 'id' | 'note'>
  /** Milliseconds since the epoch: nobody attaches any more. */
  readonly expiresAt: number
}

/** The operator's end. */
export interface OperatorEnd {
  /** Address that it came from. */
  readonly from: string
  show(data: Buffer): void
  tell(message: Exclude<ConsoleMessage, { type: 'closed' }>): void
  /** The last that it hears. */
  closed(end: ConsoleEnd): void
}

interface Entry extends GrantedConsole {
  ticket: Buffer
  operator: OperatorEnd | undefined
  /** It was attached, or is just being. */
  isTaken: boolean
  end: ConsoleEnd | undefined
  forgetAt: number
  attachedAt: number
  /** Shown, and not credited by the operator yet. */
  uncredited: number
  /** Bytes that the operator may type. */
  inCredit: number
  shownBytes: number
  typedBytes: number
}

export class ConsoleSessions {
  readonly #options: ConsoleSessionsOptions
  readonly #entries = new Map<string, Entry>()
  /** Keys that are about to be granted a session. */
  readonly #reserved = new Set<{ readonly key: string }>()

  constructor(options: ConsoleSessionsOptions) {
    this.#options = options
  }

  /**
   * Holds a place until it is granted, and disposed of then. Throws E_UNAVAILABLE where the host is not connected to this
   * process, E_CAPACITY where the key has, or all together have, too many.
   */
  reserve(host: string, key: string): Disposable {
    this.#sweep()
    if (!this.#options.agents.isConnected(host))
      throw new HostletError(
        'E_UNAVAILABLE',
        `host ${host} is away: there is no way to its consoles. See "hostlet host show ${host}".`
      )
    this.#requireRoom(key)
    const place = { key }
    this.#reserved.add(place)
    return { [Symbol.dispose]: () => void this.#reserved.delete(place) }
  }

  /** Returns the ticket that opens it once. */
  grant(granted: GrantedConsole): string {
    const { ticket, hash } = newTicket()
    this.#entries.set(granted.session, {
      ...granted,
      ticket: hash,
      operator: undefined,
      isTaken: false,
      end: undefined,
      forgetAt: granted.expiresAt,
      attachedAt: 0,
      uncredited: 0,
      inCredit: consoleWindowBytes,
      shownBytes: 0,
      typedBytes: 0
    })
    return ticket
  }

  /** The same session for who asks a second time in one breath; the earlier ticket is void. Throws E_CONFLICT. */
  grantAgain(command: string): { readonly session: string; readonly ticket: string } {
    const entry = [...this.#entries.values()].find((each) => each.command === command)
    if (entry === undefined || entry.isTaken || entry.end !== undefined)
      throw new HostletError(
        'E_CONFLICT',
        'that console session was attached to, or has ended. Ask for a new one.'
      )
    const { ticket, hash } = newTicket()
    entry.ticket = hash
    return { session: entry.session, ticket }
  }

  /** Its command has ended: what failed or came too late opens nothing, and for what is open nobody waits long. */
  commandEnded({ id, outcome, error }: Pick<CommandEnd, 'id' | 'outcome' | 'error'>): void {
    const entry = [...this.#entries.values()].find((each) => each.command === id)
    if (entry === undefined || entry.end !== undefined) return
    if (outcome === 'done')
      entry.forgetAt = Math.min(entry.forgetAt, this.#options.clock.now() + openedKeptMs)
    else this.#end(entry, { why: 'unknown', message: error?.message ?? `operation ${id} is ${outcome}` })
  }

  /**
   * Throws E_NOT_FOUND for a session that this process does not know, E_AUTH for somebody else than who asked for it,
   * E_CONFLICT when it is not open, or somebody is or was attached.
   */
  async attach(session: string, ticket: string, actor: Actor, operator: OperatorEnd): Promise<void> {
    const entry = this.#admit(session, ticket, actor)
    entry.isTaken = true
    const result = await this.#openedBy(entry).catch((thrown) => {
      entry.isTaken = false
      throw thrown
    })
    if (entry.end !== undefined) throw hasEnded(entry.end)
    entry.operator = operator
    entry.attachedAt = this.#options.clock.now()
    await this.#record('console.attached', entry)
    // It may have ended meanwhile.
    if (entry.operator === undefined) return
    const { vm, host, mode } = entry
    const { idleMs, longestMs } = result
    operator.tell({ type: 'attached', vm, host, mode, idleMs, longestMs, windowBytes: consoleWindowBytes })
    this.#send(entry, { type: 'credit', session, bytes: consoleWindowBytes })
  }

  /** The operator has typed. */
  type(session: string, data: Buffer): void {
    const entry = this.#attached(session)
    if (entry === undefined || data.length === 0) return
    const watches = entry.mode === 'read'
    if (watches || data.length > entry.inCredit) {
      this.#breach(entry, watches ? 'a watcher has typed' : 'more was typed than there was credit for')
      return
    }
    entry.inCredit -= data.length
    entry.typedBytes += data.length
    for (const piece of consolePieces(data)) this.#send(entry, { type: 'data', session, data: piece })
  }

  /** The operator has taken so much of what was shown. */
  credit(session: string, bytes: number): void {
    const entry = this.#attached(session)
    if (entry === undefined) return
    if (bytes > entry.uncredited) {
      this.#breach(entry, 'more was credited than was shown')
      return
    }
    entry.uncredited -= bytes
    this.#send(entry, { type: 'credit', session, bytes })
  }

  /** The operator's end is gone, or has to go. Nothing where it is another that is attached. */
  leave(session: string, operator: OperatorEnd, end: ConsoleEnd): void {
    const entry = this.#attached(session)
    if (entry?.operator === operator) this.#close(entry, end)
  }

  /** Takes a binary message of a host. Throws E_BAD_REQUEST for what is no frame, E_AUTH for a session of another host. */
  fromAgent(host: string, bytes: Buffer): void {
    const frame = decodeConsoleFrame(bytes)
    const entry = this.#entries.get(frame.session)
    if (entry !== undefined && entry.host !== host)
      throw new HostletError('E_AUTH', `console session ${frame.session} is not one of host ${host}`)
    if (entry === undefined || entry.end !== undefined) this.#refuseUnknown(host, frame)
    else if (frame.type === 'close') this.#end(entry, { why: frame.why, message: frame.message })
    else if (frame.type === 'data') this.#show(entry, frame.data)
    else this.#allow(entry, frame.bytes)
  }

  /** A host's connection is gone: its agent ends its sessions too. */
  hostGone(host: string): void {
    const end = { why: 'lost', message: `the connection to host ${host} was lost. The VM runs on` } as const
    for (const entry of [...this.#entries.values()])
      if (entry.host === host && entry.isTaken) this.#end(entry, end)
  }

  /** The scheduler stops. */
  close(): void {
    const end = { why: 'stopping', message: 'the scheduler stops. The VM runs on' } as const
    for (const entry of [...this.#entries.values()]) if (entry.operator !== undefined) this.#close(entry, end)
  }

  #requireRoom(key: string): void {
    const keys = [...this.#reserved].map((place) => place.key)
    for (const { actor, end } of this.#entries.values()) if (end === undefined) keys.push(actor.id)
    const own = keys.filter((each) => each === key).length
    if (own >= sessionsPerKeyMax)
      throw new HostletError(
        'E_CAPACITY',
        `${own} console sessions are granted to this key, as many as one may have. Close some, or wait a few minutes.`
      )
    if (keys.length >= sessionsMax)
      throw new HostletError(
        'E_CAPACITY',
        `${keys.length} console sessions are granted at this scheduler, as many as it keeps. Close some, or wait a few minutes.`
      )
  }

  #admit(session: string, ticket: string, { id }: Actor): Entry {
    this.#sweep()
    const entry = this.#entries.get(session)
    if (entry === undefined)
      throw new HostletError(
        'E_NOT_FOUND',
        'this scheduler knows no such console session: it has ended, or was never granted here. Ask for a new one.'
      )
    if (entry.actor.id !== id || !timingSafeEqual(entry.ticket, secretHash(ticket)))
      throw new HostletError('E_AUTH', 'this console session was granted to somebody else', {
        details: { reason: 'console-ticket' }
      })
    if (entry.end !== undefined) throw hasEnded(entry.end)
    if (entry.isTaken)
      throw new HostletError('E_CONFLICT', 'somebody is attached to this console session. Ask for a new one.')
    return entry
  }

  /** What its host answered. The session stays one to attach to where it is not open yet. */
  async #openedBy(entry: Entry): Promise<VmConsoleResult> {
    const command = await this.#options.findCommand(entry.command)
    if (command?.state === 'done') return readResult(command.value)
    if (command?.state !== 'failed' && command?.state !== 'expired')
      throw new HostletError(
        'E_CONFLICT',
        `the console is not open yet: operation ${entry.command} is ${command?.state ?? 'not known'}. Wait for it with "hostlet op wait ${entry.command}".`
      )
    const message = command.error?.message ?? `operation ${entry.command} is ${command.state}`
    this.#end(entry, { why: 'unknown', message })
    throw hasEnded({ message })
  }

  #attached(session: string): Entry | undefined {
    const entry = this.#entries.get(session)
    return entry?.operator === undefined ? undefined : entry
  }

  #show(entry: Entry, data: Buffer): void {
    if (entry.operator === undefined || entry.uncredited + data.length > consoleWindowBytes) {
      this.#breach(entry, 'the host sent more than there was credit for')
      return
    }
    entry.uncredited += data.length
    entry.shownBytes += data.length
    entry.operator.show(data)
  }

  #allow(entry: Entry, bytes: number): void {
    if (entry.inCredit + bytes > consoleWindowBytes) {
      this.#breach(entry, 'the host gave more credit than was used')
      return
    }
    entry.inCredit += bytes
    entry.operator?.tell({ type: 'credit', bytes })
  }

  #breach(entry: Entry, message: string): void {
    const end = { why: 'protocol', message } as const
    const { session, host } = entry
    this.#options.log.warn({ session, host, reason: message }, 'console session broke the rules')
    this.#close(entry, end)
  }

  /** Ends it at its host too. */
  #close(entry: Entry, end: ConsoleEnd): void {
    const { session, host } = entry
    this.#options.agents.sendBytes(host, encodeConsoleFrame({ type: 'close', session, ...end }))
    this.#end(entry, end)
  }

  /** Frames cross on the way: an end is answered by nothing. */
  #refuseUnknown(host: string, { type, session }: ConsoleFrame): void {
    if (type === 'close') return
    const end = { why: 'unknown', message: 'the scheduler knows of no such session' } as const
    this.#options.agents.sendBytes(host, encodeConsoleFrame({ type: 'close', session, ...end }))
  }

  #send(entry: Entry, frame: ConsoleFrame): void {
    if (entry.end !== undefined || this.#options.agents.sendBytes(entry.host, encodeConsoleFrame(frame)))
      return
    this.#end(entry, { why: 'lost', message: `host ${entry.host} is away` })
  }

  #end(entry: Entry, end: ConsoleEnd): void {
    if (entry.end !== undefined) return
    const { operator } = entry
    entry.end = end
    entry.operator = undefined
    entry.forgetAt = this.#options.clock.now() + endedKeptMs
    this.#forgetOldest()
    if (operator === undefined) return
    operator.closed(end)
    void this.#record('console.closed', entry, operator)
  }

  #record(kind: string, entry: Entry, operator = entry.operator): Promise<void> {
    const { session, command, vm, host, mode, actor, end, attachedAt, shownBytes, typedBytes } = entry
    const { clock, log, witness } = this.#options
    const durationMs = Math.max(0, clock.now() - attachedAt)
    const fields = {
      ...{ session, operation: command, object: vm, host, mode, key: actor.id, note: actor.note },
      from: operator?.from ?? '',
      ...(end && { why: end.why, durationMs, shownBytes, typedBytes })
    }
    const reason = end && { reason: end.message }
    log.info({ ...fields, ...reason }, kind === 'console.attached' ? 'console attached' : 'console closed')
    return witness.record(kind, { ...fields, ...(end && { message: end.message }) })
  }

  #forgetOldest(): void {
    const ended = [...this.#entries.values()].filter(({ end }) => end !== undefined)
    if (ended.length <= endedMax) return
    const oldest = ended.reduce((first, next) => (next.forgetAt < first.forgetAt ? next : first))
    this.#entries.delete(oldest.session)
  }

  #sweep(): void {
    const now = this.#options.clock.now()
    for (const [session, { operator, forgetAt }] of this.#entries)
      if (operator === undefined && forgetAt <= now) this.#entries.delete(session)
  }
}

function newTicket(): { ticket: string; hash: Buffer } {
  const ticket = `hlc_${randomBytes(32).toString('base64url')}`
  return { ticket, hash: secretHash(ticket) }
}

function hasEnded({ message }: Pick<ConsoleEnd, 'message'>): HostletError {
  return new HostletError('E_CONFLICT', `this console session has ended: ${message}`)
}
