/** Streams: the handshakes of download, upload and console, back-pressure, aborts and holes. */
import assert from 'node:assert/strict'
import { Buffer } from 'node:buffer'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { buffer } from 'node:stream/consumers'
import { describe, it } from 'node:test'
import {
  connectGetHostname,
  domainOpenConsole,
  storageVolDownload,
  storageVolUpload
} from '../../src/node-libvirt/index.ts'
import { STREAM_DATA_BYTES_MAX } from '../../src/node-libvirt/stream.ts'
import { EARLY_FRAMES_MAX, STREAMS_MAX } from '../../src/node-libvirt/streams.ts'
import { FakeClock } from './fake-clock.ts'
import { errorPayload, FakeLibvirtd, type Request } from './fake-libvirtd.ts'
import { hex } from './hex.ts'

const UPLOAD = 208
const DOWNLOAD = 209
const CONSOLE = 201
const HOSTNAME = 59
const STREAM = 3
const HOLE = 6
const status = { ok: 0, error: 1, continue: 2 }
const empty = Buffer.alloc(0)
const hostnameHv1 = '00000003 687631 00'

const volume = { pool: 'p', name: 'v', key: '/v' }
const transfer = { volume, offsetBytes: 0, lengthBytes: 0, flags: 0 }
const consoleArgs = {
  domain: { name: 'web1', uuid: hex('00112233445566778899aabbccddeeff'), id: 1 },
  device: null,
  flags: 0
}

async function setUp(answers: Parameters<typeof FakeLibvirtd.start>[0] = {}) {
  const stack = new AsyncDisposableStack()
  const server = stack.use(
    await FakeLibvirtd.start({
      [UPLOAD]: '',
      [DOWNLOAD]: '',
      [CONSOLE]: '',
      [HOSTNAME]: hostnameHv1,
      ...answers
    })
  )
  const clock = new FakeClock()
  const connection = stack.use(await server.connect({ clock, keepAlive: false }))
  /** Waits for the next frame of the client's stream with this status. */
  const streamed = async (procedure: number, wanted: number, count = 1): Promise<Request> => {
    const matching = () =>
      server.requests(procedure).filter((request) => request.type === STREAM && request.status === wanted)
    await server.until(() => matching().length >= count)
    return matching()[count - 1] as Request
  }
  return { server, connection, clock, streamed, [Symbol.asyncDispose]: () => stack.disposeAsync() }
}

/** What an upload has sent so far. */
function uploaded(server: FakeLibvirtd): Buffer {
  const frames = server.requests(UPLOAD).filter((request) => request.type === STREAM)
  return Buffer.concat(frames.map((request) => request.payload))
}

describe('a download', () => {
  it('gives the data, confirms its end and awaits the same', async () => {
    await using fake = await setUp()
    const stream = await fake.connection.download(storageVolDownload, transfer)
    const [call] = fake.server.requests(DOWNLOAD)
    assert.ok(call)
    fake.server.stream(call, Buffer.from('hello '))
    fake.server.stream(call, Buffer.from('world'))
    fake.server.stream(call, empty)
    const finish = await fake.streamed(DOWNLOAD, status.ok)
    assert.equal(finish.serial, call.serial)
    assert.equal(finish.payload.length, 0)
    let ended = false
    stream.once('end', () => {
      ended = true
    })
    const content = buffer(stream)
    await fake.connection.call(connectGetHostname, {})
    assert.equal(ended, false)
    fake.server.stream(call, empty, { status: status.ok })
    assert.equal((await content).toString(), 'hello world')
    assert.equal(ended, true)
  })

  it('takes data that stands right behind the reply to its call', async () => {
    await using fake = await setUp({
      [DOWNLOAD]: (request, server) => {
        server.reply(request, '')
        server.stream(request, Buffer.from('at once'))
        server.stream(request, empty)
        server.stream(request, empty, { status: status.ok })
      }
    })
    const stream = await fake.connection.download(storageVolDownload, transfer)
    assert.equal((await buffer(stream)).toString(), 'at once')
  })

  it('takes data that comes before the reply to its call, as from a busy libvirtd', async () => {
    await using fake = await setUp({
      [DOWNLOAD]: (request, server) => {
        for (const text of ['first ', 'second ']) server.stream(request, Buffer.from(text))
        server.reply(request, '')
        server.stream(request, Buffer.from('third'))
        server.stream(request, empty)
        server.stream(request, empty, { status: status.ok })
      }
    })
    const stream = await fake.connection.download(storageVolDownload, transfer)
    assert.equal((await buffer(stream)).toString(), 'first second third')
  })

  it('hangs up on a server that sends without end before it answers', async () => {
    await using fake = await setUp({
      [DOWNLOAD]: (request, server) => {
        for (let count = 0; count <= EARLY_FRAMES_MAX; count++) server.stream(request, Buffer.from('x'))
      }
    })
    await assert.rejects(fake.connection.download(storageVolDownload, transfer), {
      code: 'E_PROTOCOL',
      message: /64 messages of stream \d+ and no answer/
    })
  })

  it('fails with libvirt’s error, at the opening or in the middle', async () => {
    await using fake = await setUp()
    const stream = await fake.connection.download(storageVolDownload, transfer)
    const [call] = fake.server.requests(DOWNLOAD)
    assert.ok(call)
    fake.server.stream(call, Buffer.from('some'))
    fake.server.fail(call, { code: 38, domain: 38, message: 'Input/output error' }, { type: STREAM })
    await assert.rejects(buffer(stream), { name: 'LibvirtError', code: 38 })
    fake.server.answer(DOWNLOAD, (request, server) =>
      server.fail(request, { code: 50, domain: 18, message: 'no volume' })
    )
    await assert.rejects(fake.connection.download(storageVolDownload, transfer), { code: 50 })
    assert.equal(fake.server.requests(DOWNLOAD).filter((request) => request.type === STREAM).length, 0)
  })

  it('that is left early is aborted, and what still comes is dropped', async () => {
    await using fake = await setUp()
    const stream = await fake.connection.download(storageVolDownload, transfer)
    const [call] = fake.server.requests(DOWNLOAD)
    assert.ok(call)
    fake.server.stream(call, Buffer.from('first'))
    for await (const chunk of stream) {
      assert.equal(chunk.toString(), 'first')
      break
    }
    const abort = await fake.streamed(DOWNLOAD, status.error)
    assert.equal(abort.payload.length, 0)
    fake.server.stream(call, Buffer.from('more'))
    fake.server.stream(call, errorPayload({ code: 39, domain: 7, message: 'aborted' }), {
      status: status.error
    })
    assert.equal((await fake.connection.call(connectGetHostname, {})).hostname, 'hv1')
    assert.equal(fake.server.requests(DOWNLOAD).filter((request) => request.type === STREAM).length, 1)
  })

  it('stops the server from sending while its reader is slow, and loses nothing', async () => {
    await using fake = await setUp()
    const stream = await fake.connection.download(storageVolDownload, transfer)
    const [call] = fake.server.requests(DOWNLOAD)
    assert.ok(call)
    const data = randomBytes(24_000_000)
    for (let start = 0; start < data.length; start += STREAM_DATA_BYTES_MAX) {
      fake.server.stream(call, data.subarray(start, start + STREAM_DATA_BYTES_MAX))
    }
    fake.server.stream(call, empty)
    fake.server.stream(call, empty, { status: status.ok })
    stream.once('readable', () => {})
    await once(stream, 'readable')
    await fake.server.until(() => true)
    assert.ok(stream.readableLength < 4_000_000, `${stream.readableLength} bytes are buffered`)
    assert.ok((await buffer(stream)).equals(data))
  })

  it('that makes no progress ends at its deadline and is aborted', async () => {
    await using fake = await setUp()
    const stream = await fake.connection.download(storageVolDownload, transfer, { stallMs: 400 })
    const failed = assert.rejects(buffer(stream), { code: 'E_TIMEOUT' })
    await fake.connection.call(connectGetHostname, {})
    fake.clock.advance(400)
    await failed
    await fake.streamed(DOWNLOAD, status.error)
  })

  it('can be cancelled by its signal', async () => {
    await using fake = await setUp()
    const controller = new AbortController()
    const options = { signal: controller.signal }
    const stream = await fake.connection.download(storageVolDownload, transfer, options)
    controller.abort()
    await assert.rejects(buffer(stream), { code: 'E_CANCELLED' })
    await fake.streamed(DOWNLOAD, status.error)
  })

  it('whose opening was given up is aborted when it opens after all', async () => {
    await using fake = await setUp({ [DOWNLOAD]: null })
    const opening = fake.connection.download(storageVolDownload, transfer, { deadlineMs: 100 })
    const timedOut = assert.rejects(opening, { code: 'E_TIMEOUT' })
    const call = await fake.server.received(DOWNLOAD)
    fake.clock.advance(100)
    await timedOut
    fake.server.reply(call, '')
    const abort = await fake.streamed(DOWNLOAD, status.error)
    assert.equal(abort.serial, call.serial)
  })

  it('fails when the connection is lost', async () => {
    await using fake = await setUp()
    const stream = await fake.connection.download(storageVolDownload, transfer)
    fake.server.hangUp()
    await assert.rejects(buffer(stream), { code: 'E_INTERRUPTED' })
  })

  it('refuses a hole that was not asked for', async () => {
    await using fake = await setUp()
    const stream = await fake.connection.download(storageVolDownload, transfer)
    const [call] = fake.server.requests(DOWNLOAD)
    assert.ok(call)
    fake.server.stream(call, hex('0000000000001000 00000000'), { type: HOLE })
    await assert.rejects(buffer(stream), { code: 'E_PROTOCOL' })
  })

  it('gives holes where they were asked for, and refuses negative ones', async () => {
    await using fake = await setUp()
    const stream = await fake.connection.download(
      storageVolDownload,
      { ...transfer, flags: 1 },
      { sparse: true }
    )
    const [call] = fake.server.requests(DOWNLOAD)
    assert.ok(call)
    const chunks = stream[Symbol.asyncIterator]()
    fake.server.stream(call, hex('0000000000001000 00000000'), { type: HOLE })
    assert.deepEqual(await chunks.next(), { value: { holeBytes: 4096 }, done: false })
    fake.server.stream(call, hex('ffffffffffffffff 00000000'), { type: HOLE })
    await assert.rejects(chunks.next(), { code: 'E_PROTOCOL' })
  })

  it('is one of a bounded number', async () => {
    await using fake = await setUp()
    const open = () => fake.connection.download(storageVolDownload, transfer)
    const streams = await Promise.all(Array.from({ length: STREAMS_MAX }, open))
    await assert.rejects(open(), { code: 'E_BUSY' })
    streams[0]?.destroy()
    const abort = await fake.streamed(DOWNLOAD, status.error)
    fake.server.stream(abort, empty, { status: status.error })
    await fake.connection.call(connectGetHostname, {})
    const next = await open()
    for (const stream of [...streams, next]) stream.on('error', () => {})
  })
})

describe('an upload', () => {
  it('sends the data in pieces that libvirt takes, finishes and awaits the confirmation', async () => {
    await using fake = await setUp()
    const data = randomBytes(STREAM_DATA_BYTES_MAX * 2 + 10)
    const upload = fake.connection.upload(storageVolUpload, transfer, [
      data.subarray(0, 5),
      empty,
      data.subarray(5)
    ])
    const finish = await fake.streamed(UPLOAD, status.ok)
    assert.ok(uploaded(fake.server).equals(data))
    const sizes = fake.server.requests(UPLOAD).map((request) => request.payload.length)
    assert.ok(Math.max(...sizes) <= STREAM_DATA_BYTES_MAX)
    assert.equal(finish.payload.length, 0)
    fake.server.stream(finish, empty, { status: status.ok })
    await upload
  })

  it('waits for a server that does not read, and loses nothing', async () => {
    await using fake = await setUp()
    const data = randomBytes(12_000_000)
    let taken = 0
    const source = async function* () {
      for (let start = 0; start < data.length; start += 500_000) {
        taken++
        yield data.subarray(start, start + 500_000)
      }
    }
    fake.server.answer(UPLOAD, (request, server) => {
      server.reply(request, '')
      server.pause()
    })
    const upload = fake.connection.upload(storageVolUpload, transfer, source())
    await fake.server.until(() => fake.server.requests(UPLOAD).length > 0)
    // Until the socket is full: then nothing more is taken from the source, however often the loop turns.
    let before = -1
    while (taken !== before || taken === 0) {
      before = taken
      for (let turn = 0; turn < 20; turn++) await new Promise((resolve) => setImmediate(resolve))
    }
    assert.ok(taken < 24, 'the whole source was read into memory')
    fake.server.resume()
    const finish = await fake.streamed(UPLOAD, status.ok)
    fake.server.stream(finish, empty, { status: status.ok })
    await upload
    assert.ok(uploaded(fake.server).equals(data))
  })

  it('fails with libvirt’s error instead of its confirmation', async () => {
    await using fake = await setUp()
    const upload = fake.connection.upload(storageVolUpload, transfer, [Buffer.from('abc')])
    const failed = assert.rejects(upload, { name: 'LibvirtError', code: 38 })
    const finish = await fake.streamed(UPLOAD, status.ok)
    fake.server.fail(finish, { code: 38, domain: 38, message: 'No space left on device' }, { type: STREAM })
    await failed
  })

  it('aborts when its source fails, and waits until libvirt has let go', async () => {
    await using fake = await setUp()
    const source = async function* () {
      yield Buffer.from('abc')
      throw new Error('source broke')
    }
    let settled = false
    const upload = fake.connection.upload(storageVolUpload, transfer, source()).finally(() => {
      settled = true
    })
    const failed = assert.rejects(upload, /source broke/)
    const abort = await fake.streamed(UPLOAD, status.error)
    await fake.connection.call(connectGetHostname, {})
    assert.equal(settled, false)
    fake.server.stream(abort, errorPayload({ code: 39, domain: 7, message: 'aborted' }), {
      status: status.error
    })
    await failed
  })

  it('does not wait for ever for the confirmation of its end or of its abort', async () => {
    await using fake = await setUp()
    const upload = fake.connection.upload(storageVolUpload, transfer, [Buffer.from('abc')], { stallMs: 300 })
    const failed = assert.rejects(upload, { code: 'E_TIMEOUT' })
    await fake.streamed(UPLOAD, status.ok)
    fake.clock.advance(300)
    await new Promise((resolve) => setImmediate(resolve))
    fake.clock.advance(10_000)
    await failed
  })

  it('fails and aborts with a source that is none, within a bound', async () => {
    await using fake = await setUp()
    const source = 5 as unknown as Iterable<Uint8Array>
    const failed = assert.rejects(fake.connection.upload(storageVolUpload, transfer, source), {
      code: 'ERR_INVALID_ARG_TYPE'
    })
    await fake.streamed(UPLOAD, status.error)
    fake.clock.advance(10_000)
    await failed
  })

  it('sends holes where it is sparse, and refuses them elsewhere', async () => {
    await using fake = await setUp()
    const chunks = [Buffer.from('abc'), { holeBytes: 4093 }]
    const refused = fake.connection.upload(storageVolUpload, transfer, chunks)
    const failed = assert.rejects(refused)
    const abort = await fake.streamed(UPLOAD, status.error)
    fake.server.stream(abort, empty, { status: status.error })
    await failed
    const sparse = fake.connection.upload(storageVolUpload, { ...transfer, flags: 1 }, chunks, {
      sparse: true
    })
    const finish = await fake.streamed(UPLOAD, status.ok)
    const holes = fake.server.requests(UPLOAD).filter((request) => request.type === HOLE)
    assert.deepEqual(
      holes.map((request) => request.payload),
      [hex('0000000000000ffd 00000000')]
    )
    fake.server.stream(finish, empty, { status: status.ok })
    await sparse
  })

  it('refuses data from the server', async () => {
    await using fake = await setUp()
    const source = async function* () {
      yield Buffer.from('abc')
      await new Promise(() => {})
    }
    const upload = fake.connection.upload(storageVolUpload, transfer, source())
    const failed = assert.rejects(upload, { code: 'E_PROTOCOL' })
    const data = await fake.streamed(UPLOAD, status.continue)
    fake.server.stream(data, Buffer.from('what'))
    const abort = await fake.streamed(UPLOAD, status.error)
    fake.server.stream(abort, empty, { status: status.error })
    await failed
  })
})

describe('a console', () => {
  it('carries bytes both ways', async () => {
    await using fake = await setUp()
    const stream = await fake.connection.duplex(domainOpenConsole, consoleArgs)
    stream.write('ls\n')
    const typed = await fake.streamed(CONSOLE, status.continue)
    assert.equal(typed.payload.toString(), 'ls\n')
    fake.server.stream(typed, Buffer.from('file\n'))
    const [shown] = await once(stream, 'data')
    assert.equal(shown.toString(), 'file\n')
    stream.end()
    const finish = await fake.streamed(CONSOLE, status.ok)
    fake.server.stream(finish, empty, { status: status.ok })
    await once(stream, 'close')
  })

  it('ends when the guest goes', async () => {
    await using fake = await setUp()
    const stream = await fake.connection.duplex(domainOpenConsole, consoleArgs)
    const [call] = fake.server.requests(CONSOLE)
    assert.ok(call)
    fake.server.stream(call, Buffer.from('bye'))
    fake.server.stream(call, empty)
    const finish = await fake.streamed(CONSOLE, status.ok)
    fake.server.stream(finish, empty, { status: status.ok })
    assert.equal((await buffer(stream)).toString(), 'bye')
    if (!stream.closed) await once(stream, 'close')
    assert.equal(stream.writable, false)
  })

  it('may be silent for as long as it likes', async () => {
    await using fake = await setUp()
    const stream = await fake.connection.duplex(domainOpenConsole, consoleArgs)
    stream.resume()
    fake.clock.advance(10_000_000)
    assert.equal(stream.destroyed, false)
    stream.destroy()
    await fake.streamed(CONSOLE, status.error)
  })
})
