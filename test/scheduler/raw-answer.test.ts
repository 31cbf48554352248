// The last words on a raw socket: they arrive whole, and the socket does not stay.

import assert from 'node:assert/strict'
import { once } from 'node:events'
import { connect, createServer, type Socket } from 'node:net'
import { it } from 'node:test'
import { HostletError } from '../../src/errors.ts'
import { answerAndEnd } from '../../src/scheduler/raw-answer.ts'

it('answers in the form of every error, and closes even when the other side does not', {
  timeout: 10_000
}, async () => {
  // As an HTTP server's sockets are.
  const server = createServer({ allowHalfOpen: true }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address()
  assert.ok(typeof address === 'object' && address !== null)
  const arrived = once(server, 'connection')
  const client = connect({ port: address.port, host: '127.0.0.1', allowHalfOpen: true })
  const [socket] = (await arrived) as [Socket]
  const closed = once(socket, 'close')
  answerAndEnd(socket, 404, new HostletError('E_NOT_FOUND', 'there is nothing here'))
  const [head = '', body = ''] = (await everything(client)).split('\r\n\r\n')
  assert.match(head, /^HTTP\/1\.1 404 Not Found\r\n/)
  assert.deepEqual(JSON.parse(body), { error: { code: 'E_NOT_FOUND', message: 'there is nothing here' } })
  await closed
  client.destroy()
  server.close()
})

/** Up to the end, and without closing our own direction, as reading with an iterator would. */
async function everything(socket: Socket): Promise<string> {
  let text = ''
  socket.setEncoding('utf8').on('data', (part) => {
    text += part
  })
  await once(socket, 'end')
  return text
}
