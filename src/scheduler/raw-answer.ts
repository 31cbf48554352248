// The last words on a socket that HTTP has let go of: an error as any other answer has it, then the end.

import { STATUS_CODES } from 'node:http'
import type { Duplex } from 'node:stream'
import type { HostletError } from '../errors.ts'

/** Closes both directions: who is refused may not keep a socket half open, outside of every timeout. */
export function answerAndEnd(socket: Duplex, status: number, error: HostletError): void {
  const body = JSON.stringify({ error: error.toReport() })
  const head = [
    `HTTP/1.1 ${status} ${STATUS_CODES[status] ?? 'Error'}`,
    'Content-Type: application/json; charset=utf-8',
    `Content-Length: ${Buffer.byteLength(body)}`,
    'Connection: close'
  ]
  socket.end(`${head.join('\r\n')}\r\n\r\n${body}`, () => socket.destroy())
}
