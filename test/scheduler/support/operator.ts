// An operator at a console: the WebSocket as a browser or the command line opens it, and what comes over it.

import { EventEmitter, once } from 'node:events'
import type { IncomingMessage } from 'node:http'
import { text } from 'node:stream/consumers'
import { WebSocket } from 'ws'
import type { ConsoleReply } from '../../../src/protocol/api.ts'
import { type ConsoleMessage, consoleMessages } from '../../../src/protocol/console.ts'
import { compile } from '../../../src/protocol/validate.ts'

const read = compile(
  {
    type: 'object',
    required: ['type'],
    discriminator: { propertyName: 'type' },
    oneOf: [...consoleMessages]
  },
  'message to the operator'
)

export interface OperatorOptions {
  readonly url: string
  readonly ca: string
  readonly key?: string | undefined
  readonly path: string
  readonly protocol?: string
  readonly headers?: Readonly<Record<string, string>>
}

export class Operator {
  readonly socket: WebSocket
  shown = Buffer.alloc(0)
  readonly #messages: ConsoleMessage[] = []
  readonly #arrivals = new EventEmitter<{ any: [] }>()

  private constructor(socket: WebSocket) {
    this.socket = socket
    socket.on('message', (data, isBinary) => {
      if (isBinary) this.shown = Buffer.concat([this.shown, data as Buffer])
      else this.#messages.push(read(JSON.parse(String(data))) as ConsoleMessage)
      this.#arrivals.emit('any')
    })
    socket.on('close', () => this.#arrivals.emit('any'))
    socket.on('error', () => this.#arrivals.emit('any'))
  }

  static async open(options: OperatorOptions): Promise<Operator> {
    const operator = new Operator(dial(options))
    await once(operator.socket, 'open')
    return operator
  }

  /** Opens a socket and shows the ticket. */
  static async attach(
    { socket: path, ticket }: Pick<ConsoleReply, 'socket' | 'ticket'>,
    options: Omit<OperatorOptions, 'path'>
  ): Promise<Operator> {
    const operator = await Operator.open({ ...options, path })
    operator.say({ type: 'attach', ticket })
    return operator
  }

  /** The status and error with which an upgrade is refused. */
  static async refused(options: OperatorOptions): Promise<{ status: number; code: string; message: string }> {
    const socket = dial(options)
    socket.on('error', () => undefined)
    const [, response] = (await once(socket, 'unexpected-response')) as [unknown, IncomingMessage]
    const { error } = JSON.parse(await text(response)) as { error: { code: string; message: string } }
    return { ...error, status: response.statusCode ?? 0 }
  }

  say(message: unknown): void {
    this.socket.send(typeof message === 'string' ? message : JSON.stringify(message))
  }

  type(bytes: string | Buffer): void {
    this.socket.send(Buffer.from(bytes))
  }

  /** The next message of that type. */
  async next<Type extends ConsoleMessage['type']>(
    type: Type
  ): Promise<Extract<ConsoleMessage, { type: Type }>> {
    for (;;) {
      const message = this.#messages.shift()
      if (message?.type === type) return message as Extract<ConsoleMessage, { type: Type }>
      if (message !== undefined) continue
      if (this.socket.readyState === WebSocket.CLOSED) throw new Error(`closed without a message "${type}"`)
      await once(this.#arrivals, 'any')
    }
  }

  async untilShown(bytes: number): Promise<void> {
    while (this.shown.length < bytes) await once(this.#arrivals, 'any')
  }

  async gone(): Promise<void> {
    while (this.socket.readyState !== WebSocket.CLOSED) await once(this.#arrivals, 'any')
  }
}

function dial({ url, ca, key, path, protocol = 'hostlet-console.v1', headers }: OperatorOptions): WebSocket {
  return new WebSocket(`${url.replace('https:', 'wss:')}${path}`, [protocol], {
    ca,
    perMessageDeflate: false,
    headers: { ...(key !== undefined && { authorization: `Bearer ${key}` }), ...headers }
  })
}
