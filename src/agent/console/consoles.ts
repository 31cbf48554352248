// Consoles of this host's VMs that somebody is on: opened by a grant in a signed command, bounded in number and time, never recorded.

import { HostletError } from '../../errors.ts'
import type { Clock } from '../../lib/clock.ts'
import { startDeadline, untilAborted } from '../../lib/deadline.ts'
import { KeyedLock } from '../../lib/keyed-lock.ts'
import type { Logger } from '../../lib/log.ts'
import {
  type ConsoleEnd,
  type ConsoleFrame,
  decodeConsoleFrame,
  encodeConsoleFrame
} from '../../protocol/console.ts'
import type { Hypervisor, Wait } from '../host/hypervisor.ts'
import { isOff } from '../host/making.ts'
import { ConsoleLine } from './line.ts'
import { type ConsoleGrant, ConsoleSession } from './session.ts'

const lookMs = 5_000

export interface ConsoleLimits {
  /** On this host at once. */
  readonly sessionsMax: number
  /** On one VM at once. */
  readonly sessionsPerVmMax: number
  readonly idleMs: number
  readonly longestMs: number
}

/** Where the configuration says nothing. */
export const consoleLimits: ConsoleLimits = {
  sessionsMax: 8,
  sessionsPerVmMax: 4,
  idleMs: 900_000,
  longestMs: 28_800_000
}

/** The connection to the scheduler. */
export interface ConsoleWire {
  /** `taken` is called once the system has the bytes. False when there is no connection. */
  sendBytes(bytes: Buffer, taken?: () => void): boolean
}

export interface ConsoleNote {
  readonly session: string
  readonly vm: string
  readonly uuid: string
  readonly mode: string
  readonly by: string
}

export interface ConsolesOptions {
  readonly hypervisor: Pick<Hypervisor, 'openConsole' | 'findVm'>
  readonly limits: ConsoleLimits
  readonly clock: Clock
  readonly log: Logger
}

export interface ConsoleListener {
  opened(note: ConsoleNote & { readonly command: string }): void
  closed(
    note: ConsoleNote &
      Readonly<Record<'why' | 'message', string> & Record<'durationMs' | 'shownBytes' | 'typedBytes', number>>
  ): void
}

export class ConsoleSessions implements AsyncDisposable {
  readonly #options: ConsolesOptions
  /** By UUID of the VM. */
  readonly #lines = new Map<string, ConsoleLine>()
  readonly #sessions = new Map<string, ConsoleSession>()
  /** Ports that were let go of, until they are free, by UUID. */
  readonly #released = new Map<string, Promise<void>>()
  readonly #opening = new KeyedLock()
  #linesOpening = 0
  #wire: ConsoleWire | undefined
  #listener: ConsoleListener | undefined
  #isOpen = true

  constructor(options: ConsolesOptions) {
    this.#options = options
  }

  get size(): number {
    return this.#sessions.size
  }

  /** Whom to send to, and to tell. */
  attach(wire: ConsoleWire, listener: ConsoleListener): void {
    this.#wire = wire
    this.#listener = listener
  }

  /**
   * Opens a session, which then waits for its operator. No effect where it is open. Throws E_CONFLICT for a VM that is off or
   * whose console is taken, E_CAPACITY where as many are open as may be.
   */
  async open(grant: ConsoleGrant, command: string, wait: Wait): Promise<void> {
    await using _held = await this.#opening.acquire(grant.uuid, wait.signal)
    if (this.#sessions.has(grant.session)) return
    if (!this.#isOpen) throw new HostletError('E_INTERRUPTED', 'the agent stops. Ask anew in a moment.')
    const before = this.#lines.get(grant.uuid)
    const writer = grant.mode === 'write' ? before?.writer : undefined
    if (writer !== undefined && !grant.takeOver) throw taken(writer)
    this.#refuseBeyond(before, writer)
    const line = before ?? (await this.#openLineCounted(grant, wait))
    this.#begin(line, grant, command)
    // It may have ended in the very moment in which it was opened.
    if (line.isEnded) void this.#lineEnded(line, undefined)
    if (writer !== undefined)
      this.#end(writer, { why: 'taken', message: `${grant.by} took the console over` })
  }

  /** Takes a binary message of the scheduler. Throws E_BAD_REQUEST for what is no frame. */
  receive(bytes: Buffer): void {
    const frame = decodeConsoleFrame(bytes)
    const session = this.#sessions.get(frame.session)
    if (session === undefined) {
      const message = 'the host knows of no such session: it has ended'
      if (frame.type !== 'close')
        this.#send({ type: 'close', session: frame.session, why: 'unknown', message })
    } else if (frame.type === 'data') session.take(frame.data)
    else if (frame.type === 'credit') session.credit(frame.bytes)
    else this.#end(session, { why: frame.why, message: frame.message }, false)
  }

  /** The connection to the scheduler is gone: nobody is at the other end. */
  disconnected(): void {
    this.#endAll({ why: 'lost', message: 'the connection to the scheduler was lost' })
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#isOpen = false
    this.#endAll({ why: 'stopping', message: 'the agent on the host stops' })
  }

  #refuseBeyond(line: ConsoleLine | undefined, replaced: ConsoleSession | undefined): void {
    const { sessionsMax, sessionsPerVmMax } = this.#options.limits
    const going = replaced === undefined ? 0 : 1
    if (this.#sessions.size + this.#linesOpening - going >= sessionsMax)
      throw new HostletError(
        'E_CAPACITY',
        `${sessionsMax} console sessions are open on this host, as many as its configuration allows (console.sessionsMax). Close one.`
      )
    if ((line?.sessions.size ?? 0) - going >= sessionsPerVmMax)
      throw new HostletError(
        'E_CAPACITY',
        `${sessionsPerVmMax} sessions are open on the console of VM ${line?.vm}, as many as the configuration of its host allows (console.sessionsPerVmMax). Close one.`
      )
  }

  /** Each that is being opened counts as a session already. */
  async #openLineCounted(grant: ConsoleGrant, wait: Wait): Promise<ConsoleLine> {
    this.#linesOpening++
    try {
      return await this.#openLine(grant, wait)
    } finally {
      this.#linesOpening--
    }
  }

  async #openLine({ vm, uuid, takeOver }: ConsoleGrant, wait: Wait): Promise<ConsoleLine> {
    // libvirtd takes a moment to see that somebody has let go.
    await untilAborted(this.#released.get(uuid) ?? Promise.resolve(), wait.signal)
    const console = await this.#options.hypervisor.openConsole(vm, { force: takeOver }, wait)
    const line: ConsoleLine = new ConsoleLine(
      { vm, uuid },
      console,
      (error) => void this.#lineEnded(line, error)
    )
    this.#lines.set(uuid, line)
    return line
  }

  #begin(line: ConsoleLine, grant: ConsoleGrant, command: string): void {
    const { clock, log } = this.#options
    const { session: id } = grant
    const session: ConsoleSession = new ConsoleSession(grant, {
      clock,
      sendData: (data, onTaken) => this.#send({ type: 'data', session: id, data }, onTaken),
      sendCredit: (bytes) => void this.#send({ type: 'credit', session: id, bytes }),
      type: (data, onTaken) => line.type(data, onTaken),
      over: (end) => this.#end(session, end),
      ready: () => line.adjust()
    })
    this.#sessions.set(id, session)
    line.sessions.add(session)
    log.info({ command, ...noteOf(grant) }, 'console opened')
    this.#listener?.opened({ command, ...noteOf(grant) })
  }

  #endAll(end: ConsoleEnd): void {
    for (const session of [...this.#sessions.values()]) this.#end(session, end)
  }

  /** The other side is told, unless it was its own wish. */
  #end(session: ConsoleSession, end: ConsoleEnd, tell = true): void {
    const { grant, openedAt, counted } = session
    if (!this.#sessions.delete(grant.session)) return
    session.finish()
    if (tell) this.#send({ type: 'close', session: grant.session, ...end })
    const { clock, log } = this.#options
    const note = { ...noteOf(grant), ...end, durationMs: Math.max(0, clock.now() - openedAt), ...counted }
    const { message: reason, ...fields } = note
    log.info({ ...fields, reason }, 'console closed')
    this.#listener?.closed(note)
    const line = this.#lines.get(grant.uuid)
    line?.sessions.delete(session)
    if (line?.sessions.size === 0) this.#closeLine(line)
    else line?.adjust()
  }

  #closeLine(line: ConsoleLine): void {
    const { uuid, released } = line
    if (this.#lines.get(uuid) === line) this.#lines.delete(uuid)
    line.close()
    const forget = () => {
      if (this.#released.get(uuid) === waited) this.#released.delete(uuid)
    }
    const waited = released.then(forget, forget)
    this.#released.set(uuid, waited)
  }

  async #lineEnded(line: ConsoleLine, error: Error | undefined): Promise<void> {
    if (this.#lines.get(line.uuid) === line) this.#lines.delete(line.uuid)
    if (line.sessions.size === 0) return
    const end = await this.#whyEnded(line.vm, error)
    for (const session of [...line.sessions]) session.endAfterOutput(end)
  }

  async #whyEnded(vm: string, error: Error | undefined): Promise<ConsoleEnd> {
    const { clock, hypervisor, log } = this.#options
    if (error !== undefined) log.debug({ vm, error }, 'console ended with an error')
    using deadline = startDeadline({ clock, ms: lookMs, what: `the state of ${vm}` })
    try {
      const record = await hypervisor.findVm(vm, { signal: deadline.signal })
      if (record === undefined || isOff(record) || record.state === 'stopping')
        return { why: 'off', message: `VM ${vm} is off` }
      const text = `VM ${vm} is ${record.state}, and its console was closed on the host: somebody there may have taken it over`
      return { why: 'libvirt', message: text }
    } catch (thrown) {
      log.debug({ vm, error: thrown }, 'why a console ended could not be looked at')
      return { why: 'libvirt', message: 'libvirt went away. The VM runs on; ask anew in a moment' }
    }
  }

  #send(frame: ConsoleFrame, onTaken?: () => void): boolean {
    return this.#wire?.sendBytes(encodeConsoleFrame(frame), onTaken) ?? false
  }
}

function noteOf({ session, vm, uuid, mode, by }: ConsoleGrant): ConsoleNote {
  return { session, vm, uuid, mode, by }
}

function taken({ grant, openedAt }: ConsoleSession): HostletError {
  const { vm, by } = grant
  const since = new Date(openedAt).toISOString()
  return new HostletError(
    'E_CONFLICT',
    `the console of VM ${vm} is taken by ${by} since ${since}. Watch with --read-only, or take it over with --take-over.`,
    { details: { vm, by, since: openedAt } }
  )
}
