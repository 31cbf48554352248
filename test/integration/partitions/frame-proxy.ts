// A man in the middle of one host's connection who has everybody's keys: he sees each message, and does to one of them what he is told.

import { readFileSync } from 'node:fs'
import { createServer, type Server } from 'node:https'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { WebSocket, WebSocketServer } from 'ws'
import type { Identity } from '../../../src/agent/identity/identity.ts'
import {
  type AgentMessage,
  agentSocketPath,
  type SchedulerMessage,
  subprotocol
} from '../../../src/protocol/messages.ts'

export type Side = 'agent' | 'scheduler'
export type MessageType<From extends Side> = (From extends 'agent' ? AgentMessage : SchedulerMessage)['type']

/** What may be done to a message. */
export const faults = [
  'cut before',
  'cut after',
  'twice',
  'behind the next one',
  'again on the next connection'
] as const
export type Fault = (typeof faults)[number]

/** How long a message is held back where none follows. */
const heldMsMax = 200

interface Task {
  readonly from: Side
  readonly type: string
  readonly fault: Fault
  readonly done: PromiseWithResolvers<void>
}

interface Link {
  /** Of the agent, and to the scheduler. */
  readonly agent: WebSocket
  readonly scheduler: WebSocket
  readonly held: Record<Side, string | undefined>
}

export interface FrameProxyOptions {
  /** Of the scheduler: its certificate lies there, with its key. */
  readonly schedulerDirectory: string
  readonly schedulerUrl: string
  identity(): Identity
}

export class FrameProxy implements AsyncDisposable {
  readonly #options: FrameProxyOptions
  readonly #https: Server
  readonly #sockets: WebSocketServer
  #link: Link | undefined
  #task: Task | undefined
  /** Said again once the next connection has been welcomed. */
  #replay: (Task & { text: string }) | undefined
  readonly #dropped = new Set<string>()
  readonly #faults: Readonly<Record<Fault, (link: Link, task: Task, text: string) => void>> = {
    'cut before': (link, { done }) => {
      end(link)
      done.resolve()
    },
    'cut after': (link, { from, done }, text) =>
      this.#forward(link, from, text, () => {
        end(link)
        done.resolve()
      }),
    twice: (link, { from, done }, text) => {
      this.#forward(link, from, text)
      this.#forward(link, from, text)
      done.resolve()
    },
    'behind the next one': (link, { from, done }, text) => {
      link.held[from] = text
      setTimeout(() => {
        this.#release(link, from)
        done.resolve()
      }, heldMsMax)
    },
    'again on the next connection': (link, task, text) => {
      this.#replay = { ...task, text }
      this.#forward(link, task.from, text, () => end(link))
    }
  }

  private constructor(options: FrameProxyOptions) {
    const read = (name: string) => readFileSync(join(options.schedulerDirectory, name), 'utf8')
    this.#options = options
    this.#https = createServer({
      cert: `${read('server.pem')}\n${read('ca.pem')}`,
      key: read('server-key.pem'),
      ca: read('ca.pem'),
      requestCert: true,
      minVersion: 'TLSv1.3'
    })
    this.#sockets = new WebSocketServer({ server: this.#https, perMessageDeflate: false })
    this.#sockets.on('connection', (socket) => this.#connected(socket))
  }

  static async listen(options: FrameProxyOptions): Promise<FrameProxy> {
    const proxy = new FrameProxy(options)
    await new Promise<void>((resolve) => proxy.#https.listen(0, '127.0.0.1', resolve))
    return proxy
  }

  get url(): string {
    return `wss://127.0.0.1:${(this.#https.address() as AddressInfo).port}${agentSocketPath}`
  }

  /** Resolves once the fault has befallen the next message of that type. */
  async disturb(from: Side, type: string, fault: Fault): Promise<void> {
    const done = Promise.withResolvers<void>()
    this.#task = { from, type, fault, done }
    await done.promise
  }

  /** The next message of that type vanishes. */
  drop(from: Side, type: string): void {
    this.#dropped.add(`${from} ${type}`)
  }

  /** As if this side had said it. Nothing happens while nobody is connected. */
  say(from: Side, message: unknown): void {
    if (this.#link !== undefined) this.#pass(this.#link, from, JSON.stringify(message))
  }

  cut(): void {
    if (this.#link !== undefined) end(this.#link)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const socket of this.#sockets.clients) socket.terminate()
    this.#https.closeAllConnections()
    await new Promise((resolve) => this.#https.close(resolve))
  }

  #connected(agent: WebSocket): void {
    const { identity, schedulerUrl } = this.#options
    const { caCertificate: ca, certificate: cert, key } = identity()
    const url = `${schedulerUrl.replace('https:', 'wss:')}${agentSocketPath}`
    const scheduler = new WebSocket(url, subprotocol, { ca, cert, key, perMessageDeflate: false })
    const link: Link = { agent, scheduler, held: { agent: undefined, scheduler: undefined } }
    // What comes before the other half is open waits in the system.
    agent.pause()
    scheduler.once('open', () => {
      this.#link = link
      agent.resume()
    })
    for (const [from, socket, other] of [
      ['agent', agent, scheduler],
      ['scheduler', scheduler, agent]
    ] as const) {
      socket.on('message', (data) => this.#pass(link, from, data.toString()))
      // What breaks here is meant to.
      socket.on('error', () => undefined)
      socket.on('close', (code, reason) => {
        if (this.#link === link) this.#link = undefined
        // Codes below 1000 and above 4999, and some between, are not for sending.
        if (code === 1000 || code === 1001 || code >= 4000) other.close(code, reason)
        else other.terminate()
      })
    }
  }

  #pass(link: Link, from: Side, text: string): void {
    const { type } = JSON.parse(text) as { type: string }
    if (this.#dropped.delete(`${from} ${type}`)) return
    const task = this.#task
    if (task?.from !== from || task.type !== type) this.#forward(link, from, text)
    else {
      this.#task = undefined
      this.#faults[task.fault](link, task, text)
    }
    if (type === 'welcome') this.#sayAgain(link)
  }

  #sayAgain(link: Link): void {
    const replay = this.#replay
    this.#replay = undefined
    if (replay === undefined) return
    this.#forward(link, replay.from, replay.text)
    replay.done.resolve()
  }

  /** `then` is called once the system has the message, or the connection is gone. */
  #forward(link: Link, from: Side, text: string, then: () => void = () => undefined): void {
    const to = from === 'agent' ? link.scheduler : link.agent
    if (to.readyState === WebSocket.OPEN) to.send(text, then)
    else then()
    this.#release(link, from)
  }

  #release(link: Link, from: Side): void {
    const text = link.held[from]
    link.held[from] = undefined
    if (text !== undefined) this.#forward(link, from, text)
  }
}

function end({ agent, scheduler }: Link): void {
  agent.terminate()
  scheduler.terminate()
}
