/** Keepalive in both directions, back-pressure and the choice of a socket. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { openSocket } from '../../src/node-libvirt/channel.ts'
import { ConnectionError, connectGetHostname } from '../../src/node-libvirt/index.ts'
import { FakeClock } from './fake-clock.ts'
import { FakeLibvirtd, KEEPALIVE } from './fake-libvirtd.ts'

const PING = 1
const PONG = 2
const hostnameHv1 = '00000003 687631 00'
const keepAlive = { intervalMs: 100, unansweredMax: 2 }

function keepalives(server: FakeLibvirtd, procedure: number) {
  return server.requests(procedure).filter((request) => request.program === KEEPALIVE)
}

describe('keepalive', () => {
  it('answers a ping with a pong: a message of serial 0', async () => {
    await using server = await FakeLibvirtd.start()
    await using _connection = await server.connect()
    server.keepalive(PING)
    await server.until(() => keepalives(server, PONG).length === 1)
    const [pong] = keepalives(server, PONG)
    assert.deepEqual(
      { type: pong?.type, serial: pong?.serial, status: pong?.status },
      { type: 2, serial: 0, status: 0 }
    )
  })

  it('pings a silent server and gives up when it answers none', async () => {
    await using server = await FakeLibvirtd.start()
    const clock = new FakeClock()
    await using connection = await server.connect({ clock, keepAlive })
    clock.advance(100) // What was heard at the opening counts.
    clock.advance(100)
    clock.advance(100)
    await server.until(() => keepalives(server, PING).length === 2)
    clock.advance(100)
    assert.equal((await connection.closed)?.code, 'E_INTERRUPTED')
    assert.equal(clock.pending, 0)
  })

  it('goes on as long as anything is heard', async () => {
    await using server = await FakeLibvirtd.start({ 59: hostnameHv1 })
    const clock = new FakeClock()
    await using connection = await server.connect({ clock, keepAlive })
    for (let round = 0; round < 6; round++) {
      await connection.call(connectGetHostname, {})
      clock.advance(100)
      clock.advance(100)
    }
    assert.equal((await connection.call(connectGetHostname, {})).hostname, 'hv1')
    assert.ok(keepalives(server, PING).length >= 4)
  })

  it('sends no pings where it was switched off', async () => {
    await using server = await FakeLibvirtd.start({ 59: hostnameHv1 })
    const clock = new FakeClock()
    await using connection = await server.connect({ clock, keepAlive: false })
    clock.advance(1_000_000)
    assert.equal((await connection.call(connectGetHostname, {})).hostname, 'hv1')
    assert.equal(keepalives(server, PING).length, 0)
  })
})

describe('the choice of a socket', () => {
  const never = new AbortController().signal

  it('takes the first that answers', async () => {
    await using server = await FakeLibvirtd.start()
    const { socket } = await openSocket(['/nonexistent/libvirt-sock', server.socketPath], never)
    assert.equal(socket.destroyed, false)
    socket.destroy()
  })

  it('names all that were tried', async () => {
    await assert.rejects(openSocket(['/nonexistent/a', '/nonexistent/b'], never), (error) => {
      assert.ok(error instanceof ConnectionError && error.code === 'E_UNAVAILABLE')
      assert.match(error.message, /nonexistent\/a \(ENOENT\), \/nonexistent\/b \(ENOENT\)/)
      return true
    })
  })

  it('stops when it is cancelled', async () => {
    await using server = await FakeLibvirtd.start()
    await assert.rejects(openSocket([server.socketPath], AbortSignal.abort()), { code: 'E_CANCELLED' })
  })
})
