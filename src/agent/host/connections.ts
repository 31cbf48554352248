// The three connections to libvirt: opened together, watched, and opened anew together when one is lost.

import { type Connection, connect } from 'node-libvirt'
import { HostletError } from '../../errors.ts'
import { Backoff } from '../../lib/backoff.ts'
import type { Clock } from '../../lib/clock.ts'
import type { Logger } from '../../lib/log.ts'
import type { HypervisorStatus } from './hypervisor.ts'
import { fromLibvirt } from './libvirt-errors.ts'

/**
 * Separate, since libvirtd stops reading from a client at five calls: a hung QEMU may hold the long jobs or the
 * statistics, and events and quick calls still go on.
 */
export const connectionRoles = ['control', 'statistics', 'jobs'] as const
export type ConnectionRole = (typeof connectionRoles)[number]
export type ConnectionSet = Readonly<Record<ConnectionRole, Connection>>

const reconnectBaseMs = 200
const reconnectCapMs = 10_000
const openDeadlineMs = 10_000

export interface ConnectionsOptions {
  readonly uri: string
  /** The daemon's socket where it is not the one of the URI. */
  readonly socket?: string | undefined
  readonly clock: Clock
  readonly log: Logger
  /** Registers events and looks at what is there, before anybody is told that libvirt is connected. */
  readonly onConnect: (set: ConnectionSet, signal: AbortSignal) => Promise<void>
  readonly random?: () => number
}

export class Connections {
  readonly #options: ConnectionsOptions
  readonly #listeners = new Set<(status: HypervisorStatus) => void>()
  readonly #stop = new AbortController()
  readonly #backoff: Backoff
  #status: HypervisorStatus
  #set: ConnectionSet | undefined
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
      this.#tell(this.#away(lost))
      await this.#options.clock.sleep(this.#backoff.nextMs(), signal).catch(() => undefined)
    }
    this.#tell({ state: 'away', since: this.#options.clock.now(), reason: 'closed' })
  }

  /** One life of the connections: returns why it ended. */
  async #session(signal: AbortSignal): Promise<string> {
    const opened: Connection[] = []
    try {
      const set = await this.#openAll(signal, opened)
      // Before its status is told, since what runs at the beginning calls libvirt as everybody does.
      this.#set = set
      await this.#options.onConnect(set, signal)
      this.#backoff.reset()
      this.#tell({ state: 'connected' })
      return await firstEnd(opened, signal)
    } catch (error) {
      return fromLibvirt(error, `connect to ${this.#options.uri}`).message
    } finally {
      this.#set = undefined
      await Promise.allSettled(opened.map((connection) => connection.close()))
    }
  }

  async #openAll(signal: AbortSignal, opened: Connection[]): Promise<ConnectionSet> {
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

async function firstEnd(connections: readonly Connection[], signal: AbortSignal): Promise<string> {
  const stopped = new Promise<'stopped'>((resolve) =>
    signal.addEventListener('abort', () => resolve('stopped'), { once: true })
  )
  const ended = await Promise.race([...connections.map((connection) => connection.closed), stopped])
  if (ended === 'stopped') return 'stopped'
  return ended?.message ?? 'libvirt closed the connection'
}
