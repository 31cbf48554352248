// The socket to a console session, from the operator's side: typed bytes out, shown bytes in, both bounded by credit.

import type { IncomingMessage } from 'node:http'
import { text } from 'node:stream/consumers'
import { WebSocket } from 'ws'
import { HostletError, isErrorCode } from '../../errors.ts'
import type { ConsoleReply } from '../../protocol/api.ts'
import {
  type ConsoleAttached,
  type ConsoleEnd,
  type ConsoleMessage,
  consoleMessages,
  consoleSubprotocol,
  consoleWindowBytes
} from '../../protocol/console.ts'
import { compile } from '../../protocol/validate.ts'
import { type ApiPlace, unreachable } from '../api-client.ts'

/** Output that was taken is told of in portions, and at once when all of it was. */
const creditBytes = 16 * 1024

export interface ConsoleHandlers {
  attached(console: ConsoleAttached): void
  /** Call `taken` once it is on the screen. */
  show(data: Buffer, taken: () => void): void
  /** More may be typed. */
  room(): void
}

const readMessage = compile(
  {
    type: 'object',
    required: ['type'],
    discriminator: { propertyName: 'type' },
    oneOf: [...consoleMessages]
  },
  'message of the scheduler'
)

export class ConsoleSocket {
  readonly #socket: WebSocket
  readonly #connection: ApiPlace
  readonly #handlers: ConsoleHandlers
  readonly #ended = Promise.withResolvers<ConsoleEnd>()
  #inCredit = consoleWindowBytes
  #showing = 0
  #uncredited = 0

  constructor(
    connection: ApiPlace,
    { socket: path, ticket }: Pick<ConsoleReply, 'socket' | 'ticket'>,
    handlers: ConsoleHandlers
  ) {
    this.#connection = connection
    this.#handlers = handlers
    const url = new URL(path, connection.url)
    url.protocol = 'wss:'
    const { apiKey, ca } = connection
    this.#socket = new WebSocket(url, [consoleSubprotocol], {
      headers: apiKey === undefined ? {} : { authorization: `Bearer ${apiKey}` },
      minVersion: 'TLSv1.3',
      ...(ca !== undefined && { ca }),
      perMessageDeflate: false,
      maxPayload: consoleWindowBytes,
      followRedirects: false
    })
    this.#listen(ticket)
  }

  /** Resolves with why the session ended. Rejects where it never began, or the connection was lost. */
  get ended(): Promise<ConsoleEnd> {
    return this.#ended.promise
  }

  /** Bytes that may be typed now. */
  get room(): number {
    return this.#inCredit
  }

  type(data: Buffer): void {
    this.#inCredit -= data.length
    this.#socket.send(data)
  }

  leave(): void {
    this.#ended.resolve({ why: 'left', message: 'you left' })
    this.#socket.close(1000)
  }

  #listen(ticket: string): void {
    const socket = this.#socket
    socket.on('open', () => socket.send(JSON.stringify({ type: 'attach', ticket })))
    // ws hands over a message as one Buffer unless told otherwise.
    socket.on('message', (data, isBinary) => {
      if (isBinary) this.#show(data as Buffer)
      else this.#hear(data as Buffer)
    })
    socket.on('error', (error) => this.#ended.reject(unreachable(error, this.#connection)))
    socket.on('unexpected-response', (request, response) => {
      void refusalOf(response).then((error) => {
        this.#ended.reject(error)
        request.destroy()
      })
    })
    socket.on('close', (code) =>
      this.#ended.resolve({ why: 'lost', message: `the scheduler ended the connection (close code ${code})` })
    )
  }

  #show(data: Buffer): void {
    this.#showing += data.length
    this.#handlers.show(data, () => {
      this.#showing -= data.length
      this.#uncredited += data.length
      if (this.#uncredited >= creditBytes || this.#showing === 0) this.#credit()
    })
  }

  #credit(): void {
    const bytes = this.#uncredited
    this.#uncredited = 0
    if (this.#socket.readyState === WebSocket.OPEN)
      this.#socket.send(JSON.stringify({ type: 'credit', bytes }))
  }

  #hear(data: Buffer): void {
    let message: ConsoleMessage
    try {
      message = readMessage(JSON.parse(data.toString('utf8'))) as ConsoleMessage
    } catch (cause) {
      this.#ended.reject(
        new HostletError(
          'E_PROTOCOL',
          'the scheduler said something about the console that is not understood',
          {
            cause
          }
        )
      )
      this.#socket.close(1000)
      return
    }
    if (message.type === 'attached') this.#handlers.attached(message)
    else if (message.type === 'closed') this.#ended.resolve({ why: message.why, message: message.message })
    else {
      this.#inCredit += message.bytes
      this.#handlers.room()
    }
  }
}

/** The scheduler says in the body why it does not open a socket. */
async function refusalOf(response: IncomingMessage): Promise<HostletError> {
  const status = response.statusCode ?? 0
  try {
    const { error } = JSON.parse(await text(response))
    if (isErrorCode(error?.code)) return new HostletError(error.code, String(error.message).slice(0, 4_096))
  } catch (cause) {
    return new HostletError('E_PROTOCOL', `the scheduler answered with status ${status}`, { cause })
  }
  return new HostletError('E_PROTOCOL', `the scheduler answered with status ${status}`)
}
