// One WebSocket to the scheduler: TLS 1.3 both ways, text and binary frames, and every failure with its reason.

import type { IncomingMessage } from 'node:http'
import type { ConnectionOptions } from 'node:tls'
import WebSocket, { type ClientOptions } from 'ws'
import { asHostletError, HostletError, isErrorCode } from '../../errors.ts'
import { type AgentMessage, messageBytesMax, subprotocol } from '../../protocol/messages.ts'
import { connectionFault } from '../identity/connection-fault.ts'
import { connectTimeoutMs } from './machine.ts'
import type { Wire } from './outbox.ts'

export interface SocketHandlers {
  opened(): void
  /** A text frame. */
  message(text: string): void
  /** A binary frame. */
  bytes(data: Buffer): void
  pong(): void
  /** Once, at the end. `error` tells why, where the other side did not just close. */
  closed(end: {
    readonly code: number
    readonly reason: string
    readonly error: HostletError | undefined
  }): void
}

export interface SchedulerSocket extends Wire {
  /** Sends a binary frame; `taken` is called once the system has it. False when the socket is not open. */
  sendBytes(data: Buffer, taken?: () => void): boolean
  ping(): void
  close(code: number, reason: string): void
  terminate(reason: string): void
}

export type TlsSettings = Required<
  Pick<ConnectionOptions, 'ca' | 'cert' | 'key' | 'minVersion' | 'checkServerIdentity'>
>

/** Bytes that may wait for a scheduler that does not read; then the connection is given up. */
export const sendBytesMax = 16 * 1024 * 1024
/** Answers to pings are dropped while more than this waits: they are only signs of life. */
export const pongBytesMax = 1024 * 1024
/** Longest body of a refused upgrade that is read for its reason. */
const refusalBytesMax = 16_384

/** Connects at once; everything else comes through the handlers. */
export function openSocket(url: string, tls: TlsSettings, handlers: SocketHandlers): SchedulerSocket {
  const socket = new WebSocket(url, [subprotocol], {
    // Passed on to node:tls, whose type of checkServerIdentity is the true one.
    ...(tls as unknown as ClientOptions),
    perMessageDeflate: false,
    autoPong: false,
    maxPayload: messageBytesMax,
    handshakeTimeout: connectTimeoutMs,
    followRedirects: false
  })
  let failure: HostletError | undefined
  const fail = (error: HostletError) => {
    failure ??= error
  }
  socket.on('open', () => handlers.opened())
  socket.on('message', (data: Buffer, isBinary: boolean) =>
    isBinary ? handlers.bytes(data) : handlers.message(data.toString('utf8'))
  )
  socket.on('pong', () => handlers.pong())
  socket.on('ping', (data) => {
    if (socket.readyState === WebSocket.OPEN && socket.bufferedAmount < pongBytesMax) socket.pong(data)
  })
  socket.on('error', (error) => fail(connectionFault(error, url)))
  socket.on('unexpected-response', (request, response) => {
    void refusalOf(response, url).then((error) => {
      fail(error)
      request.destroy()
      socket.terminate()
    })
  })
  socket.on('close', (code, reason) =>
    handlers.closed({ code, reason: reason.toString('utf8').slice(0, 256), error: failure })
  )
  const terminate = (reason: string) => {
    fail(new HostletError('E_TIMEOUT', `${url}: ${reason}`))
    socket.terminate()
  }
  return {
    get isOpen() {
      return socket.readyState === WebSocket.OPEN
    },
    get bufferedBytes() {
      return socket.bufferedAmount
    },
    send: (message: AgentMessage) => {
      if (socket.readyState !== WebSocket.OPEN) return
      if (socket.bufferedAmount > sendBytesMax) terminate('it does not read what is sent to it')
      else socket.send(JSON.stringify(message))
    },
    sendBytes: (data, taken) => {
      if (socket.readyState !== WebSocket.OPEN) return false
      // An error closes the socket, which is told by its own event.
      socket.send(data, (error) => {
        if (!error) taken?.()
      })
      return true
    },
    ping: () => {
      if (socket.readyState === WebSocket.OPEN) socket.ping()
    },
    close: (code, reason) => socket.close(code, reason),
    terminate
  }
}

/** The scheduler says in the body why it does not open a socket. */
async function refusalOf(response: IncomingMessage, url: string): Promise<HostletError> {
  const status = response.statusCode ?? 0
  try {
    const { error } = JSON.parse(await bodyOf(response))
    if (isErrorCode(error?.code) && typeof error.message === 'string')
      return new HostletError(error.code, error.message.slice(0, 4_096), {
        details: { status, reason: String(error.details?.reason ?? 'refused').slice(0, 256) }
      })
  } catch (cause) {
    return new HostletError(
      'E_UNAVAILABLE',
      `${url} answered with status ${status}, not as a scheduler does`,
      {
        cause: asHostletError(cause),
        details: { status }
      }
    )
  }
  return new HostletError('E_UNAVAILABLE', `${url} answered with status ${status}`, { details: { status } })
}

async function bodyOf(response: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = []
  let bytes = 0
  for await (const chunk of response) {
    bytes += chunk.length
    if (bytes > refusalBytesMax) break
    chunks.push(chunk)
  }
  return Buffer.concat(chunks).toString('utf8')
}
