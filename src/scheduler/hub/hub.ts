// All agents that are connected to this process: lets them in, keeps one connection a host, wakes delivery.

import type { X509Certificate } from 'node:crypto'
import type { IncomingMessage, Server } from 'node:http'
import type { Duplex } from 'node:stream'
import { TLSSocket } from 'node:tls'
import { WebSocketServer } from 'ws'
import { asHostletError, errorCodes, HostletError } from '../../errors.ts'
import type { Clock } from '../../lib/clock.ts'
import type { Logger } from '../../lib/log.ts'
import { splitCertificates } from '../../lib/pem.ts'
import { agentSocketPath, messageBytesMax, subprotocol } from '../../protocol/messages.ts'
import type { Witness } from '../audit.ts'
import { clonedReason } from '../identity/cloned.ts'
import { answerAndEnd } from '../raw-answer.ts'
import type { HostStanding, Store } from '../store/store.ts'
import { AgentConnection, type AgentFrames } from './connection.ts'
import { identifyPeer } from './peer.ts'
import type { TrustSource } from './trust-link.ts'

/** Connections that this process holds; more are refused. */
export const connectionsMax = 10_000
/** Connections of one host that have not said hello; the oldest makes room for a newer one. */
export const unheardMax = 4
/** How often it is looked whether another process has ended a host's right to its connection; a revocation counts within a second. */
export const standingIntervalMs = 500
/** How long agents may take to close when the scheduler stops. */
const closeWaitMs = 2_000

export interface HubOptions {
  readonly store: Store
  readonly clock: Clock
  readonly log: Logger
  readonly witness: Witness
  readonly trustDomain: string
  /** Whom hosts are to believe, and by which CAs they come. */
  readonly trust: TrustSource & { cameWith(host: string, certificate: X509Certificate): Promise<void> }
  readonly schedulerVersion: string
  readonly heartbeatIntervalMs: number
  readonly metricsIntervalMs: number
  readonly frames?: AgentFrames
}

/** Takes what else than an agent's socket is asked for. */
export interface OtherSockets {
  owns(path: string): boolean
  upgrade(request: IncomingMessage, socket: Duplex, head: Buffer): Promise<void>
}

export class Hub {
  readonly #options: HubOptions
  readonly #server: WebSocketServer
  /** By host: the connection that said hello last. */
  readonly #ready = new Map<string, AgentConnection>()
  readonly #all = new Set<AgentConnection>()
  #isOpen = true
  #watch: Disposable | undefined
  #looking: Promise<void> | undefined
  #onAllClosed: (() => void) | undefined

  constructor(options: HubOptions) {
    this.#options = options
    this.#server = new WebSocketServer({
      noServer: true,
      clientTracking: false,
      maxPayload: messageBytesMax,
      perMessageDeflate: false,
      autoPong: false,
      handleProtocols: (offered) => (offered.has(subprotocol) ? subprotocol : false)
    })
  }

  /** Begins to look for what other processes write of the hosts that are connected here. */
  watch(): void {
    this.#watch = this.#options.clock.timer(standingIntervalMs, () => {
      this.#looking = this.#look().finally(() => {
        if (this.#isOpen) this.watch()
      })
    })
  }

  /** Takes the upgrade requests of an HTTPS server; those to other sockets are handed on. */
  attach(server: Pick<Server, 'on'>, others?: OtherSockets): void {
    server.on('upgrade', (request: IncomingMessage, socket: Duplex, head: Buffer) => {
      socket.on('error', () => socket.destroy())
      const isOther = others?.owns(request.url?.split('?')[0] ?? '') === true
      void (isOther ? others.upgrade(request, socket, head) : this.#upgrade(request, socket, head))
    })
  }

  isConnected(host: string): boolean {
    return this.#ready.get(host)?.isReady === true
  }

  /** Sends a binary message. False when the host is not connected to this process. */
  sendBytes(host: string, bytes: Buffer): boolean {
    return this.#ready.get(host)?.sendBytes(bytes) ?? false
  }

  /** Has the host's connection look for commands, if it is connected to this process. */
  wake(host: string): void {
    this.#ready.get(host)?.wake()
  }

  /** Tells every host that is connected what has changed. */
  async tellTrust(): Promise<void> {
    await Promise.all([...this.#ready.values()].map((connection) => connection.tellTrust()))
  }

  /** Ends every connection of the host, because it may not have one any more; one that says hello just now included. */
  disconnect(host: string, reason: string): void {
    for (const connection of this.#all) if (connection.host === host) connection.close('auth', reason)
  }

  async close(): Promise<void> {
    this.#isOpen = false
    this.#watch?.[Symbol.dispose]()
    await this.#looking
    const connections = [...this.#all]
    for (const connection of connections) connection.close('stopping', 'the scheduler is stopping')
    await this.#waitForClose()
    for (const connection of this.#all) connection.cut('the scheduler is stopping')
    await Promise.all(connections.map((connection) => connection.settled()))
    this.#server.close()
  }

  /** Costs next to nothing while no other process writes. */
  async #look(): Promise<void> {
    const { store, log } = this.#options
    try {
      if (this.#all.size === 0 || !(await store.changedByOthers())) return
      const standing = await store.hosts.standing()
      for (const connection of this.#all) endUnless(connection, standing.get(connection.host))
    } catch (thrown) {
      log.error({ error: asHostletError(thrown) }, 'revocations could not be looked for, the next look comes')
    }
  }

  async #upgrade(request: IncomingMessage, socket: Duplex, head: Buffer): Promise<void> {
    try {
      const { id: host } = await this.#admit(request, socket)
      this.#server.handleUpgrade(request, socket, head, (webSocket) => {
        const connection = new AgentConnection({
          ...this.#options,
          socket: webSocket,
          host,
          onReady: (ready) => this.#onReady(ready),
          onClosed: (closed) => this.#onClosed(closed),
          onCloned: (cloned) => this.#onCloned(cloned)
        })
        this.#makeRoom(host)
        this.#all.add(connection)
      })
    } catch (thrown) {
      this.#refuse(asHostletError(thrown), request, socket)
    }
  }

  /** An agent opens one connection; a host that opens many and says nothing holds no more than a few. */
  #makeRoom(host: string): void {
    const unheard = [...this.#all].filter((one) => one.host === host && one.isUnheard)
    if (unheard.length >= unheardMax)
      unheard[0]?.cut('the host opened many connections and said hello on none')
  }

  #refuse(error: HostletError, request: IncomingMessage, socket: Duplex): void {
    const { log } = this.#options
    const isInternal = error.code === 'E_INTERNAL'
    const fields = { remote: request.socket.remoteAddress, code: error.code, ...error.details }
    if (isInternal) log.error({ error }, 'agent socket could not be opened')
    else log.warn(fields, 'agent refused')
    answerAndEnd(socket, errorCodes[error.code].httpStatus, isInternal ? internalError : error)
  }

  async #admit(request: IncomingMessage, socket: Duplex) {
    const { store, clock, trustDomain, trust } = this.#options
    if (request.url?.split('?')[0] !== agentSocketPath)
      throw new HostletError('E_NOT_FOUND', `there is no socket here, agents connect to ${agentSocketPath}`)
    if (!(socket instanceof TLSSocket)) throw new HostletError('E_AUTH', 'agents connect over TLS')
    const host = await identifyPeer(socket, {
      trustDomain,
      authorities: splitCertificates(trust.bundle),
      hosts: store.hosts,
      now: clock.now()
    })
    const offered = String(request.headers['sec-websocket-protocol'] ?? '').split(/\s*,\s*/)
    if (!offered.includes(subprotocol))
      throw new HostletError(
        'E_UNSUPPORTED',
        `the agent does not offer the subprotocol ${subprotocol}. Upgrade the older of the two.`
      )
    const certificate = socket.getPeerX509Certificate()
    if (certificate !== undefined) await this.#options.trust.cameWith(host.id, certificate)
    if (!this.#isOpen || this.#all.size >= connectionsMax)
      throw new HostletError('E_UNAVAILABLE', 'the scheduler takes no more agents now. Try again later.')
    return host
  }

  #onReady(connection: AgentConnection): void {
    const before = this.#ready.get(connection.host)
    before?.replace()
    if (before !== undefined) this.#options.frames?.gone(connection.host)
    this.#ready.set(connection.host, connection)
  }

  /** Both are sent away: nobody here can tell which of them is the host. */
  #onCloned(host: string): void {
    this.#options.log.error(
      { host },
      'two machines use one identity, neither may connect until it is settled: hostlet host settle'
    )
    this.#ready.get(host)?.close('auth', clonedReason)
  }

  #onClosed(connection: AgentConnection): void {
    this.#all.delete(connection)
    if (this.#ready.get(connection.host) === connection) {
      this.#ready.delete(connection.host)
      this.#options.frames?.gone(connection.host)
    }
    this.#onAllClosed?.()
  }

  /** Until all are closed, or as long as agents may take. */
  async #waitForClose(): Promise<void> {
    if (this.#all.size === 0) return
    const closed = Promise.withResolvers<void>()
    this.#onAllClosed = () => this.#all.size === 0 && closed.resolve()
    using _timer = this.#options.clock.timer(closeWaitMs, closed.resolve)
    await closed.promise
  }
}

function endUnless(connection: AgentConnection, standing: HostStanding | undefined): void {
  if (standing === undefined || standing.revoked) connection.close('auth', 'the host was revoked')
  else if (standing.cloned) connection.close('auth', clonedReason)
  else if (connection.isReady && standing.connection !== connection.id) connection.replace()
}

/** What is shown of an internal error: nothing that it says itself. */
const internalError = new HostletError(
  'E_INTERNAL',
  'the scheduler failed on this connection. Its log has the reason.'
)
