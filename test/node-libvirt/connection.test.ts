/** A connection from its opening to its end, against a fake libvirtd. */
import assert from 'node:assert/strict'
import { access } from 'node:fs/promises'
import { describe, it } from 'node:test'
import {
  ConnectionError,
  connect,
  connectGetHostname,
  nothing,
  procedure,
  storageVolDownload
} from '../../src/node-libvirt/index.ts'
import { FakeClock } from './fake-clock.ts'
import { FakeLibvirtd } from './fake-libvirtd.ts'
import { hex } from './hex.ts'

const HOSTNAME = 59
const hostnameHv1 = '00000003 687631 00'

function connectionError(code: string): (error: unknown) => boolean {
  return (error) => error instanceof ConnectionError && error.code === code
}

describe('opening', () => {
  it('asks for authentication first, opens the URI, then learns what is there', async () => {
    await using server = await FakeLibvirtd.start()
    await using connection = await server.connect()
    const procedures = server.requests().map((request) => request.procedure)
    assert.deepEqual(procedures.slice(0, 2), [66, 1])
    const open = hex(`
      00000001                                      # a name
      0000000f 746573743a2f2f2f64656661756c74 00    # test:///default
      00000000                                      # flags`)
    assert.deepEqual(server.requests(1)[0]?.payload, open)
    assert.equal(connection.facts.hypervisor, 'TEST')
    assert.equal(connection.facts.libvirtVersion, '9.0.0')
    assert.ok(connection.facts.features.has('keepalive'))
  })

  it('states that it only reads where that is asked for', async () => {
    await using server = await FakeLibvirtd.start()
    await using _connection = await server.connect({ readOnly: true })
    assert.equal(server.requests(1)[0]?.payload.readUInt32BE(24), 1)
  })

  it('does not ask for pings where they are not wanted', async () => {
    await using server = await FakeLibvirtd.start()
    await using connection = await server.connect({ keepAlive: false })
    const features = server.requests(60).map((request) => request.payload.readInt32BE(0))
    assert.ok(features.length > 0 && !features.includes(10))
    assert.ok(!connection.facts.features.has('keepalive'))
  })

  it('lets polkit decide', async () => {
    await using server = await FakeLibvirtd.start({ 66: '00000001 00000002', 70: '00000001' })
    await using connection = await server.connect()
    assert.equal(server.requests(70).length, 1)
    assert.equal(connection.facts.hypervisor, 'TEST')
  })

  it('says what to do when polkit refuses', async () => {
    await using server = await FakeLibvirtd.start({
      66: '00000001 00000002',
      70: (request, fake) => fake.fail(request, { code: 45, domain: 7, message: 'authentication failed' })
    })
    await assert.rejects(server.connect(), (error) => {
      return connectionError('E_AUTH')(error) && /group "libvirt".*authentication failed/.test(String(error))
    })
    server.answer(70, '00000000')
    await assert.rejects(server.connect(), connectionError('E_AUTH'))
  })

  it('says that SASL is not supported', async () => {
    await using server = await FakeLibvirtd.start({ 66: '00000001 00000001' })
    await assert.rejects(
      server.connect(),
      (error) => connectionError('E_AUTH')(error) && /SASL/.test(String(error))
    )
    await server.until(() => server.hungUp)
    assert.equal(server.requests(1).length, 0)
  })

  it('passes on why libvirt does not open', async () => {
    await using server = await FakeLibvirtd.start({
      1: (request, fake) => fake.fail(request, { code: 38, domain: 0, message: 'no such file' })
    })
    await assert.rejects(server.connect(), { name: 'LibvirtError', code: 38 })
    await server.until(() => server.hungUp)
  })

  it('names the sockets where nobody answers', async () => {
    const uri = 'test:///default?socket=/nonexistent/libvirt-sock'
    await assert.rejects(connect(uri), (error) => {
      return connectionError('E_UNAVAILABLE')(error) && /nonexistent.*ENOENT/.test(String(error))
    })
  })

  it('ends at its deadline and when cancelled, and closes its socket', async () => {
    await using server = await FakeLibvirtd.start({ 1: null })
    const clock = new FakeClock()
    const slow = server.connect({ clock, deadlineMs: 500 })
    const timedOut = assert.rejects(slow, connectionError('E_TIMEOUT'))
    await server.received(1)
    clock.advance(500)
    await timedOut
    await server.until(() => server.hungUp)
    const controller = new AbortController()
    const cancelled = assert.rejects(
      server.connect({ signal: controller.signal }),
      connectionError('E_CANCELLED')
    )
    await server.received(1, 2)
    controller.abort()
    await cancelled
  })

  it('fails when the server hangs up in the middle', async () => {
    await using server = await FakeLibvirtd.start({ 1: (_, fake) => fake.hangUp() })
    await assert.rejects(server.connect(), connectionError('E_INTERRUPTED'))
  })
})

describe('an open connection', () => {
  it('calls a procedure', async () => {
    await using server = await FakeLibvirtd.start({ [HOSTNAME]: hostnameHv1 })
    await using connection = await server.connect()
    assert.deepEqual(await connection.call(connectGetHostname, {}), { hostname: 'hv1' })
  })

  it('refuses to call what opens a stream, and to stream what is a call', async () => {
    await using server = await FakeLibvirtd.start()
    await using connection = await server.connect()
    const volume = { pool: 'p', name: 'v', key: '/v' }
    const args = { volume, offsetBytes: 0, lengthBytes: 0, flags: 0 }
    await assert.rejects(connection.call(storageVolDownload, args), connectionError('E_BAD_REQUEST'))
    await assert.rejects(connection.download(connectGetHostname, {}), connectionError('E_BAD_REQUEST'))
  })

  it('uses its own deadline for calls that state none', async () => {
    await using server = await FakeLibvirtd.start({ [HOSTNAME]: null })
    const clock = new FakeClock()
    const connection = await server.connect({ clock, callDeadlineMs: 700, keepAlive: false })
    const late = assert.rejects(connection.call(connectGetHostname, {}), connectionError('E_TIMEOUT'))
    await server.received(HOSTNAME)
    clock.advance(700)
    await late
    await connection.close()
  })

  it('rejects all that is under way when the server goes, and says why it ended', async () => {
    await using server = await FakeLibvirtd.start({ [HOSTNAME]: null })
    await using connection = await server.connect()
    const calls = Promise.allSettled([1, 2, 3, 4, 5].map(() => connection.call(connectGetHostname, {})))
    await server.received(HOSTNAME, 4)
    server.hangUp()
    const codes = (await calls).map((end) => (end.status === 'rejected' ? end.reason.code : null))
    assert.deepEqual(codes, [...new Array(4).fill('E_INTERRUPTED'), 'E_UNAVAILABLE'])
    assert.equal((await connection.closed)?.code, 'E_INTERRUPTED')
    await assert.rejects(connection.call(connectGetHostname, {}), connectionError('E_UNAVAILABLE'))
  })

  const hostile: readonly [string, string][] = [
    ['a frame that is too long', '7fffffff'],
    ['a frame that is too short', '00000004'],
    ['a call', '0000001c 20008086 00000001 0000003b 00000000 00000001 00000000'],
    ['a reply that answers nothing', '0000001c 20008086 00000001 0000003b 00000001 0000ffff 00000000'],
    ['text that is no frame', Buffer.from('HTTP/1.1 400 Bad Request\r\n\r\n').toString('hex')]
  ]
  for (const [name, wire] of hostile) {
    it(`ends when the server sends ${name}`, async () => {
      await using server = await FakeLibvirtd.start({ [HOSTNAME]: null })
      await using connection = await server.connect()
      const call = assert.rejects(connection.call(connectGetHostname, {}), connectionError('E_PROTOCOL'))
      await server.received(HOSTNAME)
      server.send(hex(wire))
      await call
      assert.equal((await connection.closed)?.code, 'E_PROTOCOL')
      await server.until(() => server.hungUp)
    })
  }

  it('goes on after a message that it does not know', async () => {
    await using server = await FakeLibvirtd.start({ [HOSTNAME]: hostnameHv1 })
    await using connection = await server.connect()
    server.event(9999, '00000000')
    server.stream(
      { program: 0x20008086, procedure: 209, type: 3, serial: 4711, status: 2, payload: hex('') },
      hex('00')
    )
    assert.equal((await connection.call(connectGetHostname, {})).hostname, 'hv1')
  })

  it('knows no procedure that the server does not know', async () => {
    await using server = await FakeLibvirtd.start({
      9999: (request, fake) => fake.fail(request, { code: 39, domain: 7, message: 'unknown procedure: 9999' })
    })
    await using connection = await server.connect()
    const unknown = procedure(9999, nothing, nothing)
    await assert.rejects(connection.call(unknown, {}), connectionError('E_UNSUPPORTED'))
  })
})

describe('closing', () => {
  it('tells libvirtd, waits for its answer and ends', async () => {
    await using server = await FakeLibvirtd.start()
    const connection = await server.connect()
    await Promise.all([connection.close(), connection.close()])
    assert.equal(server.requests(2).length, 1)
    assert.equal(await connection.closed, null)
    await assert.rejects(connection.call(connectGetHostname, {}), connectionError('E_UNAVAILABLE'))
  })

  it('lets a call finish that is answered in time, and sends no queued one', async () => {
    await using server = await FakeLibvirtd.start({ [HOSTNAME]: null, 2: null })
    const connection = await server.connect()
    const calls = Promise.allSettled([1, 2, 3, 4, 5].map(() => connection.call(connectGetHostname, {})))
    await server.received(HOSTNAME, 4)
    const closing = connection.close()
    const close = await server.received(2)
    for (const request of server.requests(HOSTNAME).slice(0, 2)) server.reply(request, hostnameHv1)
    server.reply(close, '')
    await closing
    const ends = (await calls).map((end) =>
      end.status === 'rejected' ? end.reason.code : end.value.hostname
    )
    assert.deepEqual(ends, ['hv1', 'hv1', 'E_INTERRUPTED', 'E_INTERRUPTED', 'E_UNAVAILABLE'])
    assert.equal(server.requests(HOSTNAME).length, 4)
  })

  it('does not wait longer than its deadline', async () => {
    await using server = await FakeLibvirtd.start({ 2: null })
    const clock = new FakeClock()
    const connection = await server.connect({ clock })
    const closing = connection.close({ deadlineMs: 300 })
    await server.received(2)
    clock.advance(300)
    await closing
    await server.until(() => server.hungUp)
    assert.equal(clock.pending, 0)
  })

  it('does nothing to a connection that has ended', async () => {
    await using server = await FakeLibvirtd.start()
    const connection = await server.connect()
    server.hangUp()
    await connection.closed
    await connection.close()
    assert.equal(server.requests(2).length, 0)
  })

  it('is what disposing does', async () => {
    await using server = await FakeLibvirtd.start()
    {
      await using connection = await server.connect()
      assert.equal(connection.load.inFlight, 0)
    }
    assert.equal(server.requests(2).length, 1)
  })

  it('leaves the socket of the server alone', async () => {
    await using server = await FakeLibvirtd.start()
    await (await server.connect()).close()
    await assert.doesNotReject(access(server.socketPath))
  })
})
