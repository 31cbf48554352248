// Sending over one socket: an agent that does not read is noticed before its messages fill the memory.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import type { WebSocket } from 'ws'
import { Outgoing, sendBytesMax } from '../../../src/scheduler/hub/outgoing.ts'

/** As much of a socket as is asked for: it keeps what it is given until it is read. */
function fakeSocket() {
  const socket = {
    OPEN: 1,
    readyState: 1,
    bufferedAmount: 0,
    send(text: string, callback: (error?: Error) => void) {
      socket.bufferedAmount += Buffer.byteLength(text)
      callback()
    }
  }
  return socket
}

const command = (bytes: number) => ({ type: 'command', jws: 'x'.repeat(bytes) }) as const

describe('outgoing messages', () => {
  it('are cut off at the bound', async () => {
    const socket = fakeSocket()
    let cuts = 0
    const outgoing = new Outgoing(socket as unknown as WebSocket, () => cuts++)
    const size = 250_000
    let sent = 0
    while (await outgoing.send(command(size))) sent++
    assert.equal(cuts, 1)
    assert.ok(socket.bufferedAmount <= sendBytesMax)
    assert.equal(sent, Math.floor(sendBytesMax / (size + '{"type":"command","jws":""}'.length)))
  })

  it('are not sent over a closed socket', async () => {
    const socket = { ...fakeSocket(), readyState: 3 }
    const outgoing = new Outgoing(socket as unknown as WebSocket, () => assert.fail('cut'))
    assert.equal(await outgoing.send(command(1)), false)
  })
})
