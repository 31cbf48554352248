// Faults below HTTP: which of them get an answer, and that no socket outlives one.

import assert from 'node:assert/strict'
import type { Socket } from 'node:net'
import { PassThrough } from 'node:stream'
import { finished } from 'node:stream/promises'
import { describe, it } from 'node:test'
import { answerBrokenRequest } from '../../../src/scheduler/http/errors.ts'

/** What a socket of that fault was told, once it is gone. */
async function toldAtFault(code: string): Promise<string> {
  const socket = new PassThrough()
  let text = ''
  socket.setEncoding('utf8').on('data', (part) => {
    text += part
  })
  const gone = finished(socket, { readable: false }).catch(() => undefined)
  answerBrokenRequest(Object.assign(new Error('x'), { code }), socket as unknown as Socket)
  await gone
  assert.equal(socket.destroyed, true)
  return text
}

describe('a fault below HTTP', () => {
  for (const [code, status] of [
    ['HPE_INVALID_METHOD', 400],
    ['HPE_HEADER_OVERFLOW', 431],
    ['ERR_HTTP_REQUEST_TIMEOUT', 408]
  ] as const)
    it(`is answered where HTTP is spoken, and ends the connection: ${code}`, async () => {
      assert.match(await toldAtFault(code), new RegExp(`^HTTP/1.1 ${status} .*"E_BAD_REQUEST"`, 's'))
    })

  for (const code of ['ERR_TLS_HANDSHAKE_TIMEOUT', 'ERR_SSL_HTTP_REQUEST', 'ECONNRESET'])
    it(`cuts the connection where it is not: ${code}`, async () => {
      assert.equal(await toldAtFault(code), '')
    })
})
