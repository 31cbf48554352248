// The agent's socket on its own host: looks only, for root and the group of the agent, whatever else is away.

import { chmodSync, lstatSync, mkdirSync, rmSync } from 'node:fs'
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import { connect } from 'node:net'
import { dirname } from 'node:path'
import { asHostletError, errorCodes, HostletError } from '../../errors.ts'
import type { Clock } from '../../lib/clock.ts'
import { boundConnectionTime } from '../../lib/connection-time.ts'
import type { Logger } from '../../lib/log.ts'

export const connectionsMax = 16
/** For a request to come in whole, and for its answer to be made. */
export const requestMsMax = 5_000
export const answerMsMax = 10_000
/** From a connection to its end: the two, and for the answer to be read. */
export const connectionMsMax = 20_000
const headerBytesMax = 4_096
/** Owner and group may ask: root, the agent, and who is in its group. */
const socketMode = 0o660

export interface LocalAnswer {
  readonly type: string
  readonly body: string
}

/** One thing that may be looked at. `signal` is aborted when nobody waits for the answer any more. */
export interface LocalRoute {
  readonly path: string
  handle(query: URLSearchParams, signal: AbortSignal): Promise<LocalAnswer>
}

export interface LocalServerOptions {
  readonly log: Logger
  readonly clock: Pick<Clock, 'timer'>
}

export class LocalServer implements AsyncDisposable {
  readonly #server: Server
  readonly #log: Logger
  #routes: ReadonlyMap<string, LocalRoute> | undefined
  #fault: string | undefined

  private constructor({ log, clock }: LocalServerOptions) {
    this.#log = log
    const limits = { requestTimeout: requestMsMax, headersTimeout: requestMsMax }
    const options = { ...limits, connectionsCheckingInterval: 1_000, maxHeaderSize: headerBytesMax }
    this.#server = createServer(options, (request, response) => void this.#take(request, response))
    this.#server.maxConnections = connectionsMax
    boundConnectionTime(this.#server, connectionMsMax, clock)
  }

  /** Never throws: the agent works without it, and `fault` says why it has to. Nothing but "starting" is answered at first. */
  static async open(path: string, options: LocalServerOptions): Promise<LocalServer> {
    const server = new LocalServer(options)
    try {
      await server.#listen(path)
    } catch (error) {
      server.#fail(`${path} could not be made: ${asHostletError(error).message}`)
    }
    return server
  }

  /** Why nobody can ask; undefined while they can. */
  get fault(): string | undefined {
    return this.#fault
  }

  /** From now on these are answered. */
  mount(routes: readonly LocalRoute[]): void {
    this.#routes = new Map(routes.map((route) => [route.path, route]))
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (!this.#server.listening) return
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()))
    this.#server.closeAllConnections()
    await closed
  }

  async #listen(path: string): Promise<void> {
    mkdirSync(dirname(path), { recursive: true, mode: 0o711 })
    await removeStale(path)
    await new Promise<void>((resolve, reject) => {
      this.#server.once('error', reject)
      this.#server.listen(path, () => {
        this.#server.off('error', reject)
        resolve()
      })
    })
    this.#server.on('error', (error) => this.#fail(`${path} failed: ${error.message}`))
    chmodSync(path, socketMode)
  }

  #fail(fault: string): void {
    this.#fault = fault
    this.#log.warn({ reason: fault }, 'local socket is not there')
  }

  async #take(request: IncomingMessage, response: ServerResponse): Promise<void> {
    // One question a connection: nobody holds one of the few for longer.
    response.setHeader('connection', 'close')
    try {
      const { type, body } = await this.#answer(request, response)
      send(response, 200, type, body)
    } catch (thrown) {
      const error = asHostletError(thrown)
      if (error.code === 'E_INTERNAL') this.#log.error({ error }, 'local request failed')
      const body = JSON.stringify({ error: error.toReport() })
      send(response, errorCodes[error.code].httpStatus, 'application/json', body)
    }
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<LocalAnswer> {
    const { method = '', url = '/' } = request
    if (method !== 'GET') throw new HostletError('E_UNSUPPORTED', `${method}: this socket only takes GET`)
    const { pathname, searchParams } = new URL(url, 'http://localhost')
    if (this.#routes === undefined)
      throw new HostletError('E_UNAVAILABLE', 'the agent is starting; ask again in a moment')
    const route = this.#routes.get(pathname)
    if (route === undefined)
      throw new HostletError(
        'E_NOT_FOUND',
        `there is no ${pathname.slice(0, 256)}, only ${[...this.#routes.keys()].join(', ')}`
      )
    const gone = new AbortController()
    response.once('close', () => gone.abort(new HostletError('E_CANCELLED', 'nobody waits for the answer')))
    return await route.handle(searchParams, AbortSignal.any([gone.signal, AbortSignal.timeout(answerMsMax)]))
  }
}

function send(response: ServerResponse, status: number, type: string, body: string): void {
  if (response.destroyed) return
  response.writeHead(status, { 'content-type': type, 'content-length': Buffer.byteLength(body) }).end(body)
}

/** A socket that nobody listens at, as a killed agent leaves it. Throws for anything else that is there. */
async function removeStale(path: string): Promise<void> {
  const found = lstatSync(path, { throwIfNoEntry: false })
  if (found === undefined) return
  if (!found.isSocket()) throw new HostletError('E_CONFLICT', 'what is there is no socket; move it away')
  if (await isListening(path))
    throw new HostletError(
      'E_CONFLICT',
      'another process listens there; does a second agent use this "runtimeDirectory"?'
    )
  rmSync(path, { force: true })
}

function isListening(path: string): Promise<boolean> {
  return new Promise((resolve, reject) => {
    const socket = connect(path)
    socket.once('connect', () => {
      socket.destroy()
      resolve(true)
    })
    socket.once('error', (error: NodeJS.ErrnoException) => {
      if (error.code === 'ECONNREFUSED' || error.code === 'ENOENT') resolve(false)
      else reject(error)
    })
  })
}
