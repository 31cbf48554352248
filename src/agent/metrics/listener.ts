// The metrics endpoint of the agent on a port of the loopback, for a Prometheus that cannot scrape a unix socket.

import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { HostletError } from '../../errors.ts'
import type { Clock } from '../../lib/clock.ts'
import { boundConnectionTime } from '../../lib/connection-time.ts'
import type { Logger } from '../../lib/log.ts'
import type { ListenAddress } from './loopback.ts'

export interface ListenerOptions extends ListenAddress {
  readonly log: Logger
  readonly clock: Pick<Clock, 'timer'>
  handle(): Promise<{ readonly type: string; readonly body: string }>
}

const requestTimeoutMs = 10_000
export const connectionsMax = 16
/** From a connection to its end, its answer read. */
export const connectionMsMax = 20_000

/** Answers `GET /metrics` and nothing else. Rejects with E_UNAVAILABLE when the port cannot be had. */
export class MetricsListener implements AsyncDisposable {
  readonly #server: Server

  private constructor(server: Server) {
    this.#server = server
  }

  static async open(options: ListenerOptions): Promise<MetricsListener> {
    const server = createServer((request, response) => void answer(request, response, options))
    server.requestTimeout = requestTimeoutMs
    server.headersTimeout = requestTimeoutMs
    server.maxConnections = connectionsMax
    boundConnectionTime(server, connectionMsMax, options.clock)
    const { promise, resolve, reject } = Promise.withResolvers<void>()
    server.once('error', (cause: NodeJS.ErrnoException) => reject(notListening(options, cause)))
    server.listen({ host: options.address, port: options.port }, resolve)
    await promise
    server.unref()
    return new MetricsListener(server)
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>()
    this.#server.close(() => resolve())
    this.#server.closeAllConnections()
    await promise
  }
}

async function answer(
  request: IncomingMessage,
  response: ServerResponse,
  { handle, log }: ListenerOptions
): Promise<void> {
  // One question a connection: none is cut while its second answer is on its way.
  response.setHeader('connection', 'close')
  if (request.url?.split('?')[0] !== '/metrics') return end(response, 404, 'There is only /metrics here.\n')
  if (request.method !== 'GET' && request.method !== 'HEAD')
    return end(response.setHeader('allow', 'GET'), 405, 'Metrics can only be read.\n')
  try {
    const { type, body } = await handle()
    end(response, 200, request.method === 'HEAD' ? '' : body, type)
  } catch (error) {
    log.error({ error }, 'metrics could not be told')
    end(response, 500, 'The metrics could not be told. The log of the agent has the reason.\n')
  }
}

function end(
  response: ServerResponse,
  status: number,
  body: string,
  type = 'text/plain; charset=utf-8'
): void {
  response.writeHead(status, { 'content-type': type, 'cache-control': 'no-store' }).end(body)
}

function notListening({ address, port }: ListenAddress, cause: NodeJS.ErrnoException): HostletError {
  const isForbidden = cause.code === 'EPERM' || cause.code === 'EACCES'
  const next = isForbidden
    ? `The unit of the agent lets it open no port: allow this one with "systemctl edit hostlet", as "[Service]" and "SocketBindAllow=tcp:${port}", and restart it.`
    : 'Free the port, or change "metrics.listen" in the configuration and restart the agent.'
  return new HostletError(
    'E_UNAVAILABLE',
    `the metrics cannot be served on ${address}:${port} (${cause.code ?? 'unknown error'}). ${next}`,
    { cause }
  )
}
