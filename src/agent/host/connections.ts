// The three connections to libvirt: opened together, opened anew together when one is lost, and one alone when it is stuck.

import { type Connection, connect } from 'node-libvirt'
import { HostletError } from '../../errors.ts'
import { Backoff } from '../../lib/backoff.ts'
import type { Clock } from '../../lib/clock.ts'
import type { Logger } from '../../lib/log.ts'
import type { HypervisorStatus } from './hypervisor.ts'
import { fromLibvirt } from './libvirt-errors.ts'
import { type Replacements, StuckConnections, watchIntervalMs } from './stuck-connections.ts'

/**
 * Separate, since libvirtd stops reading from a client at five calls: a hung QEMU may hold the long jobs or the
 * statistics, and events and quick calls still go on.
 */
export const connectionRoles = ['control', 'statistics', 'jobs'] as const
export type ConnectionRole = (typeof connectionRoles)[number]

const reconnectBaseMs = 200
const reconnectCapMs = 10_000
const openDeadlineMs = 10_000

export interface ConnectionsOptions {
  readonly uri: string
  /** The daemon's socket where it is not the one of the URI. */
  readonly socket?: string | undefined
  readonly clock: Clock
  readonly log: Logger
  /** Registers events: on each connection that takes the role 'control', before it does. */
  readonly onControl: (control: Connection, signal: AbortSignal) => Promise<void>
  /** Looks at what is there, before anybody is told that libvirt is connected. */
  readonly onConnect: (signal: AbortSignal) => Promise<void>
  readonly random?: () => number
}

export class Connections {
  readonly #options: ConnectionsOptions
  readonly #listeners = new Set<(status: HypervisorStatus) => void>()
  readonly #stop = new AbortController()
  readonly #backoff: Backoff
  #status: HypervisorStatus
  #set: Record<ConnectionRole, Connection> | undefined
  /** Over reconnections, so that those do not lift the bound. */
  readonly #replacements: Replacements = new Map()
  #running: Promise<void> | undefined

  constructor(options: ConnectionsOptions) {
    this.#options = options
    this.#status = { state: 'away', since: options.clock.now(), reason: 'not connected yet' }
    const random = options.random === undefined ? {} : { random: options.random }
    this.#backoff = new Backoff({ baseMs: reconnectBaseMs, capMs: reconnectCapMs, ...random })
  }

  get status(): HypervisorStatus {
    return this.#status
  }

  open(): void {
    this.#running ??= this.#run()
  }

  onStatus(listener: (status: HypervisorStatus) => void): Disposable {
    this.#listeners.add(listener)
    return { [Symbol.dispose]: () => this.#listeners.delete(listener) }
  }

  /** The connection for a role. Throws E_UNAVAILABLE while libvirt is away. */
  get(role: ConnectionRole): Connection {
    if (this.#set !== undefined) return this.#set[role]
    const reason = this.#status.state === 'away' ? this.#status.reason : 'closed'
    throw new HostletError(
      'E_UNAVAILABLE',
      `libvirt is away (${reason}). The agent reconnects by itself; check that libvirtd runs.`
    )
  }

  /** Whether a connection has the role now: one that was replaced is not listened to any more. */
  has(role: ConnectionRole, connection: Connection): boolean {
    return this.#set?.[role] === connection
  }

  /** A connection for one stream: a slow reader of it holds up nothing else. The caller closes it. */
  async openForStream(signal: AbortSignal): Promise<Connection> {
    this.get('jobs')
    // Streams stand still for longer than keepalive allows where a disk is slow; they have a stall limit of their own.
    return await this.#connect(AbortSignal.any([signal, this.#stop.signal]), { keepAlive: false })
  }

  async close(): Promise<void> {
    this.#stop.abort(new HostletError('E_CANCELLED', 'the agent is stopping'))
    await this.#running
  }

  async #run(): Promise<void> {
    const { signal } = this.#stop
    while (!signal.aborted) {
      const lost = await this.#session(signal)
      if (signal.aborted) break
      if (lost !== undefined) this.#tell(this.#away(lost))
      await this.#options.clock.sleep(this.#backoff.nextMs(), signal).catch(() => undefined)
    }
    this.#tell({ state: 'away', since: this.#options.clock.now(), reason: 'closed' })
  }

  /** One life of the connections: returns why there was none; that one has ended is told already. */
  async #session(outer: AbortSignal): Promise<string | undefined> {
    const over = new AbortController()
    const signal = AbortSignal.any([outer, over.signal])
    const opened: Connection[] = []
    let watching: Promise<void> | undefined
    try {
      const set = await this.#openAll(signal, opened)
      // Before its status is told, since what runs at the beginning calls libvirt as everybody does.
      this.#set = set
      await this.#options.onControl(set.control, signal)
      await this.#options.onConnect(signal)
      this.#backoff.reset()
      this.#tell({ state: 'connected' })
      const ended = Promise.withResolvers<string>()
      for (const role of connectionRoles) this.#endWith(role, set[role], ended.resolve)
      signal.addEventListener('abort', () => ended.resolve('stopped'), { once: true })
      watching = this.#watch(opened, { signal, ended: ended.resolve })
      const lost = await ended.promise
      // Before the others are closed, which may take a while: what fails meanwhile is to be tried again, not given up.
      this.#set = undefined
      if (!outer.aborted) this.#tell(this.#away(lost))
      return undefined
    } catch (error) {
      return fromLibvirt(error, `connect to ${this.#options.uri}`).message
    } finally {
      this.#set = undefined
      over.abort()
      await watching
      await Promise.allSettled(opened.map((connection) => connection.close()))
    }
  }

  /** Ends the session with a connection, unless another has taken its role. */
  #endWith(role: ConnectionRole, connection: Connection, ended: (reason: string) => void): void {
    void connection.closed.then((error) => {
      if (this.has(role, connection)) ended(error?.message ?? 'libvirt closed the connection')
    })
  }

  /** Replaces connections that a hung QEMU fills with calls which nobody waits for any more. */
  async #watch(
    opened: Connection[],
    { signal, ended }: { signal: AbortSignal; ended: (reason: string) => void }
  ): Promise<void> {
    const { clock, log } = this.#options
    const stuck = new StuckConnections<Connection>(this.#replacements)
    while (await slept(clock.sleep(watchIntervalMs, signal))) {
      await this.#closeDrained(stuck, opened)
      for (const role of connectionRoles) {
        const before = this.#set?.[role]
        if (before === undefined) return
        const { abandoned } = before.load
        const advice = stuck.observe(role, before, clock.monotonic())
        if (advice === 'spent')
          log.warn(
            { role, abandoned },
            'connection to libvirt is stuck, and was replaced too often: it stays'
          )
        if (advice !== 'replace') continue
        log.warn(
          { role, abandoned },
          'connection to libvirt is stuck behind calls that do not return: it is replaced'
        )
        await this.#replace(role, { before, opened, stuck, signal, ended })
      }
    }
  }

  async #replace(
    role: ConnectionRole,
    session: {
      readonly before: Connection
      readonly opened: Connection[]
      readonly stuck: StuckConnections<Connection>
      readonly signal: AbortSignal
      readonly ended: (reason: string) => void
    }
  ): Promise<void> {
    const { before, opened, stuck, signal, ended } = session
    let fresh: Connection | undefined
    try {
      fresh = await this.#connect(signal)
      opened.push(fresh)
      if (role === 'control') await this.#options.onControl(fresh, signal)
      signal.throwIfAborted()
      if (this.#set === undefined) return
      this.#set[role] = fresh
      this.#endWith(role, fresh, ended)
      stuck.retire(before)
    } catch (thrown) {
      // Closed by the end of the session, where that is the reason.
      if (signal.aborted) return
      const error = fromLibvirt(thrown, 'replace a connection')
      this.#options.log.warn({ role, error }, 'connection to libvirt could not be replaced')
      if (fresh !== undefined) await drop(fresh, opened)
    }
  }

  async #closeDrained(stuck: StuckConnections<Connection>, opened: Connection[]): Promise<void> {
    for (const connection of stuck.takeDrained()) await drop(connection, opened)
  }

  async #openAll(signal: AbortSignal, opened: Connection[]): Promise<Record<ConnectionRole, Connection>> {
    const open = async () => {
      const connection = await this.#connect(signal)
      opened.push(connection)
      return connection
    }
    // One after the other: on a host without libvirtd one failure is enough.
    return { control: await open(), statistics: await open(), jobs: await open() }
  }

  #connect(signal: AbortSignal, options: { keepAlive?: false } = {}): Promise<Connection> {
    const { uri, socket, log } = this.#options
    const target = socket === undefined ? uri : `${uri}?socket=${encodeURIComponent(socket)}`
    const onProblem = (error: Error) => log.warn({ error }, 'problem on the connection to libvirt')
    return connect(target, { ...options, signal, deadlineMs: openDeadlineMs, onProblem })
  }

  #away(reason: string): HypervisorStatus {
    const since = this.#status.state === 'away' ? this.#status.since : this.#options.clock.now()
    return { state: 'away', since, reason }
  }

  /** Said once: a further failed attempt changes nothing that anybody must know. */
  #tell(status: HypervisorStatus): void {
    const before = this.#status
    this.#status = status
    const attempt = this.#backoff.attempts
    if (status.state === 'away' && before.state === 'away' && attempt > 0) return
    if (status.state === 'connected') this.#options.log.info({}, 'connected to libvirt')
    else if (!this.#stop.signal.aborted) this.#options.log.warn({ reason: status.reason }, 'libvirt is away')
    for (const listener of this.#listeners) listener(status)
  }
}

/** False when the sleep was cut short. */
async function slept(sleep: Promise<void>): Promise<boolean> {
  return await sleep.then(
    () => true,
    () => false
  )
}

async function drop(connection: Connection, opened: Connection[]): Promise<void> {
  opened.splice(opened.indexOf(connection), 1)
  await connection.close().catch(() => undefined)
}
