// The answer to an upgrade request that is refused: plain HTTP with the error as JSON, then the end.

import { STATUS_CODES } from 'node:http'
import type { Duplex } from 'node:stream'
import { errorCodes, HostletError } from '../../errors.ts'

export function refuseUpgrade(socket: Duplex, error: HostletError): void {
  const status = errorCodes[error.code].httpStatus
  const shown =
    error.code === 'E_INTERNAL'
      ? new HostletError('E_INTERNAL', 'the scheduler failed on this connection. Its log has the reason.')
      : error
  const body = JSON.stringify({ error: shown.toReport() })
  const head = [
    `HTTP/1.1 ${status} ${STATUS_CODES[status] ?? 'Error'}`,
    'Content-Type: application/json; charset=utf-8',
    `Content-Length: ${Buffer.byteLength(body)}`,
    'Connection: close'
  ]
  socket.end(`${head.join('\r\n')}\r\n\r\n${body}`)
}
