// A scheduler for tests: TLS with client certificates, one socket at a time, and answers that the test writes.

import { createServer, type Server } from 'node:https'
import type { AddressInfo } from 'node:net'
import { type WebSocket, WebSocketServer } from 'ws'
import type { AgentMessage, AgentMessageOf, SchedulerMessage } from '../../src/protocol/messages.ts'
import { parseAgentMessage } from '../../src/protocol/validate.ts'
import type { Pair, TestAuthority } from './test-authority.ts'

export interface TestSchedulerOptions {
  readonly authority: TestAuthority
  readonly server: Pair
  /** What POST requests are answered with. */
  readonly reply?: (path: string, body: unknown) => Promise<{ status: number; body: unknown }>
  /** False: hello stays without an answer. */
  readonly welcomes?: boolean
  readonly maxVersion?: 'TLSv1.2' | 'TLSv1.3'
}

export class TestScheduler implements AsyncDisposable {
  readonly received: AgentMessage[] = []
  /** Times that a socket was opened. */
  connections = 0
  /** Bodies of POST requests. */
  readonly posts: unknown[] = []
  readonly #server: Server
  readonly #sockets: WebSocketServer
  readonly #waiting = new Set<() => void>()
  #socket: WebSocket | undefined

  private constructor(options: TestSchedulerOptions) {
    const { authority, server, maxVersion = 'TLSv1.3' } = options
    this.#server = createServer({
      cert: `${server.cert}\n${authority.certificate}`,
      key: server.key,
      ca: authority.certificate,
      requestCert: true,
      rejectUnauthorized: false,
      maxVersion,
      minVersion: 'TLSv1.2'
    })
    this.#sockets = new WebSocketServer({ server: this.#server, perMessageDeflate: false })
    this.#sockets.on('connection', (socket) => this.#take(socket, options))
    this.#server.on('request', (request, response) => {
      let text = ''
      request.on('data', (chunk) => {
        text += chunk
      })
      request.on('end', async () => {
        // The doctor asks whether anybody is there.
        if (request.method === 'GET') return response.end('{}')
        const body: unknown = JSON.parse(text)
        this.posts.push(body)
        const answer = (await options.reply?.(request.url ?? '', body)) ?? { status: 404, body: {} }
        response.writeHead(answer.status, { 'content-type': 'application/json' })
        response.end(JSON.stringify(answer.body))
      })
    })
  }

  static async listen(options: TestSchedulerOptions): Promise<TestScheduler> {
    const scheduler = new TestScheduler(options)
    await new Promise<void>((resolve) => scheduler.#server.listen(0, '127.0.0.1', resolve))
    return scheduler
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port
  }

  get url(): string {
    return `https://127.0.0.1:${this.port}`
  }

  get socketUrl(): string {
    return `wss://127.0.0.1:${this.port}/v1/agent`
  }

  get socket(): WebSocket {
    if (this.#socket === undefined) throw new Error('no agent is connected')
    return this.#socket
  }

  send(message: SchedulerMessage | string): void {
    this.socket.send(typeof message === 'string' ? message : JSON.stringify(message))
  }

  of<Type extends AgentMessage['type']>(type: Type): AgentMessageOf<Type>[] {
    return this.received.filter((message): message is AgentMessageOf<Type> => message.type === type)
  }

  /** Resolves when the condition holds; it is looked at after each message, connection and end. */
  async until(condition: () => boolean): Promise<void> {
    while (!condition()) await new Promise<void>((resolve) => this.#waiting.add(resolve))
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const socket of this.#sockets.clients) socket.terminate()
    this.#server.closeAllConnections()
    await new Promise((resolve) => this.#server.close(resolve))
  }

  #take(socket: WebSocket, { welcomes = true }: TestSchedulerOptions): void {
    this.#socket = socket
    this.connections++
    socket.on('message', (data) => {
      const message = parseAgentMessage(String(data))
      this.received.push(message)
      if (message.type === 'hello' && welcomes)
        this.send({
          type: 'welcome',
          protocol: 1,
          schedulerVersion: 'test',
          sentAt: Date.now(),
          heartbeatIntervalMs: 5_000,
          metricsIntervalMs: 7_000
        })
      this.#wake()
    })
    socket.on('pong', () => this.#wake())
    socket.on('ping', () => this.#wake())
    socket.on('close', () => this.#wake())
    this.#wake()
  }

  #wake(): void {
    for (const resolve of this.#waiting) resolve()
    this.#waiting.clear()
  }
}
