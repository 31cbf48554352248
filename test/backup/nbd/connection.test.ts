/** The NBD client against servers that are honest: replies in any form and order, aborts, deadlines, lost connections. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { requestsInFlightMax } from '../../../src/backup/nbd/channel.ts'
import { connectNbd, type NbdConnection } from '../../../src/backup/nbd/connection.ts'
import { listNbdExports } from '../../../src/backup/nbd/exports.ts'
import { FakeClock, settle } from '../../support/fake-clock.ts'
import {
  type Asked,
  agree,
  greeting,
  type Honest,
  type Line,
  optionReply,
  type ScriptedServer,
  startScriptedServer,
  u32,
  wire
} from './scripted-server.ts'

const wait = { signal: new AbortController().signal }
const allocation = { 5: 'base:allocation' }

/** A pattern that is different at each offset of interest. */
const patternAt = (offset: number, length: number) =>
  Buffer.from(Uint8Array.from({ length }, (_, index) => (offset + index) * 31 + ((offset + index) >> 8)))

interface Bench extends AsyncDisposable {
  readonly server: ScriptedServer
  readonly connection: NbdConnection
}

async function connected(
  script: (line: Line, connection: number) => Promise<void>,
  options: Honest & {
    contextNames?: readonly string[]
    connections?: number
    clock?: FakeClock
    deadlineMs?: number
  } = {}
): Promise<Bench> {
  const {
    contextNames = [],
    connections = 1,
    clock = new FakeClock(),
    deadlineMs = 1_000,
    ...honest
  } = options
  const server = await startScriptedServer(async (line, connection) => {
    await agree(line, honest)
    await script(line, connection)
  })
  const connection = await connectNbd({
    ...{ socketPath: server.socketPath, exportName: 'disk', contexts: contextNames, connections, clock },
    ...{ deadlineMs, signal: wait.signal }
  })
  const dispose = async () => {
    await connection.close()
    await server[Symbol.asyncDispose]()
  }
  return { server, connection, [Symbol.asyncDispose]: dispose }
}

describe('NBD connection', { timeout: 30_000 }, () => {
  it('puts pieces in any order where they belong', async () => {
    await using bench = await connected(async (line) => {
      const { cookie, offset } = await line.request()
      line.write(wire.data(cookie, offset + 3_000, patternAt(offset + 3_000, 1_096)))
      line.write(wire.hole(cookie, offset, 1_000))
      line.write(wire.data(cookie, offset + 1_000, patternAt(offset + 1_000, 2_000)), wire.none(cookie))
    })
    const target = Buffer.alloc(4_096, 0xee)
    await bench.connection.read(8_192, target, wait)
    assert.deepEqual(target, Buffer.concat([Buffer.alloc(1_000), patternAt(9_192, 3_096)]))
  })

  it('answers requests in the order of the replies, mixed piece by piece', async () => {
    await using bench = await connected(async (line) => {
      const first = await line.request()
      const second = await line.request()
      const part = ({ cookie, offset }: Asked, at: number, done = false) =>
        wire.data(cookie, offset + at, patternAt(offset + at, 512), done)
      line.write(part(second, 0), part(first, 512), part(second, 512, true), part(first, 0, true))
    })
    const targets = [Buffer.alloc(1_024), Buffer.alloc(1_024)] as const
    const order: number[] = []
    const read = async (index: 0 | 1) => {
      await bench.connection.read(index * 4_096, targets[index], wait)
      order.push(index)
    }
    await Promise.all([read(0), read(1)])
    assert.deepEqual(order, [1, 0])
    assert.deepEqual(targets[0], patternAt(0, 1_024))
    assert.deepEqual(targets[1], patternAt(4_096, 1_024))
  })

  it('reads and writes where structured replies are not known', async () => {
    const written: Asked[] = []
    await using bench = await connected(
      async (line) => {
        const read = await line.request()
        line.write(wire.simple(read.cookie), patternAt(read.offset, read.length))
        for (let count = 0; count < 3; count++) {
          const asked = await line.request()
          written.push(asked)
          line.write(wire.simple(asked.cookie))
        }
      },
      { structured: false }
    )
    const target = Buffer.alloc(700)
    await bench.connection.read(100, target, wait)
    assert.deepEqual(target, patternAt(100, 700))
    await bench.connection.write(512, patternAt(1, 1_000), wait)
    await bench.connection.writeZeroes(4_096, 8_192, wait)
    await bench.connection.flush(wait)
    assert.deepEqual(
      written.map(({ type, offset, length }) => [type, offset, length]),
      [
        [1, 512, 1_000],
        [6, 4_096, 8_192],
        [3, 0, 0]
      ]
    )
    assert.deepEqual(written[0]?.payload, patternAt(1, 1_000))
  })

  it('gives the runs of each context, cut where the question ends', async () => {
    await using bench = await connected(
      async (line) => {
        const { cookie } = await line.request()
        line.write(wire.status(cookie, 9, [[65_536, 1]]))
        line.write(
          wire.status(
            cookie,
            5,
            [
              [512, 3],
              [512, 3],
              [1 << 20, 0]
            ],
            true
          )
        )
      },
      {
        contexts: { ...allocation, 9: 'qemu:dirty-bitmap:b' },
        contextNames: ['base:allocation', 'qemu:dirty-bitmap:b']
      }
    )
    const status = await bench.connection.blockStatus(0, 4_096, wait)
    assert.deepEqual(status.get('qemu:dirty-bitmap:b'), [{ length: 4_096, flags: 1 }])
    assert.deepEqual(status.get('base:allocation'), [
      { length: 1_024, flags: 3 },
      { length: 3_072, flags: 0 }
    ])
  })

  it('says what the server answered, and goes on', async () => {
    await using bench = await connected(async (line) => {
      const failed = await line.request()
      line.write(wire.data(failed.cookie, failed.offset, Buffer.alloc(512)))
      line.write(wire.error(failed.cookie, 5, 'the disk\n is gone'))
      const full = await line.request()
      line.write(wire.simple(full.cookie, 28))
      const fine = await line.request()
      line.write(wire.hole(fine.cookie, fine.offset, fine.length, true))
    })
    await assert.rejects(bench.connection.read(0, Buffer.alloc(1_024), wait), {
      code: 'E_UNAVAILABLE',
      message: /could not do a read \(input or output error\): the disk\? is gone/
    })
    await assert.rejects(bench.connection.write(0, Buffer.alloc(512), wait), { code: 'E_CAPACITY' })
    await bench.connection.read(0, Buffer.alloc(512), wait)
  })

  it('refuses what does not fit the disk without asking', async () => {
    await using bench = await connected(async () => undefined)
    for (const [offset, length] of [
      [-1, 1],
      [0, 0],
      [1 << 20, 1],
      [(1 << 20) - 1, 2],
      [0.5, 1],
      [Number.NaN, 1]
    ] as const)
      await assert.rejects(bench.connection.read(offset, Buffer.alloc(length), wait), {
        code: 'E_BAD_REQUEST'
      })
    await assert.rejects(bench.connection.blockStatus(0, 512, wait), { code: 'E_UNSUPPORTED' })
  })

  it('sends a long read in pieces over its connections, and takes no second one where that is not allowed', async () => {
    const asked: [connection: number, offset: number, length: number][] = []
    const answerAll = async (line: Line, connection: number) => {
      for (;;) {
        const { cookie, offset, length, type } = await line.request()
        if (type === 2) return
        asked.push([connection, offset, length])
        line.write(wire.data(cookie, offset, patternAt(offset, length), true))
      }
    }
    const mebibyte = 1 << 20
    for (const [flags, connections] of [
      [0b1_0000_0101, 2],
      [0b101, 1]
    ] as const) {
      asked.length = 0
      await using bench = await connected(answerAll, { sizeBytes: 4 * mebibyte, flags, connections: 2 })
      const target = Buffer.alloc(2 * mebibyte + 100)
      await bench.connection.read(1_000, target, wait)
      assert.ok(target.equals(patternAt(1_000, target.length)))
      assert.deepEqual(asked.map(([, , length]) => length).sort(), [100, mebibyte, mebibyte])
      assert.equal(new Set(asked.map(([connection]) => connection)).size, connections)
      assert.equal(bench.connection.requestsInFlightMax, connections * requestsInFlightMax)
    }
  })

  it('keeps at most so many requests in flight, and sends the rest as answers come', async () => {
    let seen = 0
    const gate = Promise.withResolvers<void>()
    await using bench = await connected(async (line) => {
      const first: Asked[] = []
      while (first.length < requestsInFlightMax) {
        first.push(await line.request())
        seen++
      }
      await gate.promise
      for (const { cookie, offset, length } of first) line.write(wire.hole(cookie, offset, length, true))
      for (; seen < 40; seen++) {
        const { cookie, offset, length } = await line.request()
        line.write(wire.hole(cookie, offset, length, true))
      }
    })
    const reads = Array.from({ length: 40 }, (_, index) =>
      bench.connection.read(index * 512, Buffer.alloc(512), wait)
    )
    while (seen < requestsInFlightMax) await settle()
    await settle()
    assert.equal(seen, requestsInFlightMax)
    gate.resolve()
    await Promise.all(reads)
    assert.equal(seen, 40)
  })

  it('speaks TCP as well', async () => {
    await using server = await startScriptedServer(
      async (line) => {
        await agree(line)
        const { cookie, offset, length } = await line.request()
        line.write(wire.data(cookie, offset, patternAt(offset, length), true))
      },
      { tcp: true }
    )
    const address = { host: '127.0.0.1', port: server.port }
    const connection = await connectNbd({ ...address, exportName: '', ...wait })
    const target = Buffer.alloc(600_000)
    await connection.read(7, target, wait)
    assert.ok(target.equals(patternAt(7, target.length)))
    await connection.close()
  })

  it('lists exports', async () => {
    await using server = await startScriptedServer(async (line) => {
      line.write(greeting)
      await line.read(4)
      await line.option()
      for (const name of ['vda', 'vdb'])
        line.write(optionReply(3, 2, Buffer.concat([u32(3), Buffer.from(`${name}a disk`)])))
      line.write(optionReply(3, 1))
    })
    assert.deepEqual(await listNbdExports({ socketPath: server.socketPath, ...wait }), [
      { name: 'vda', description: 'a disk' },
      { name: 'vdb', description: 'a disk' }
    ])
  })
})

describe('NBD requests that end early', { timeout: 30_000 }, () => {
  it('writes nothing into memory whose read was aborted half-way', async () => {
    const halfSent = Promise.withResolvers<void>()
    const reused = Promise.withResolvers<void>()
    await using bench = await connected(async (line) => {
      const { cookie, offset } = await line.request()
      const reply = wire.data(cookie, offset, Buffer.alloc(8_192, 0xaa), true)
      line.write(reply.subarray(0, 4_096))
      halfSent.resolve()
      await line.read(28)
      line.write(reply.subarray(4_096, 6_000))
      await reused.promise
      line.write(reply.subarray(6_000))
      const next = await line.request()
      line.write(wire.data(next.cookie, next.offset, patternAt(0, 512), true))
    })
    const target = Buffer.alloc(8_192)
    const controller = new AbortController()
    const read = bench.connection.read(0, target, controller)
    await halfSent.promise
    while (target[0] !== 0xaa) await settle()
    controller.abort(new Error('enough'))
    // A second question tells the server to go on.
    const other = bench.connection.read(8_192, Buffer.alloc(512), wait)
    other.catch(() => undefined)
    await assert.rejects(read, { message: 'enough' })
    target.fill(0x55)
    reused.resolve()
    const third = Buffer.alloc(512)
    const last = bench.connection.read(0, third, wait)
    // The server has taken the second question for its go, so only the third is answered.
    await last
    assert.deepEqual(third, patternAt(0, 512))
    assert.ok(target.every((byte) => byte === 0x55))
  })

  it('writes nothing into memory whose read was aborted before its answer', async () => {
    const aborted = Promise.withResolvers<void>()
    await using bench = await connected(async (line) => {
      const first = await line.request()
      await aborted.promise
      line.write(wire.hole(first.cookie, 0, 512), wire.data(first.cookie, 512, Buffer.alloc(512, 0xaa), true))
      const second = await line.request()
      line.write(wire.data(second.cookie, 0, patternAt(0, 512), true))
    })
    const target = Buffer.alloc(1_024, 0x55)
    const controller = new AbortController()
    const read = bench.connection.read(0, target, controller)
    controller.abort(new Error('enough'))
    await assert.rejects(read, { message: 'enough' })
    aborted.resolve()
    await bench.connection.read(0, Buffer.alloc(512), wait)
    assert.ok(target.every((byte) => byte === 0x55))
  })

  it('closes the connection when the kernel keeps the memory of an aborted read', async () => {
    const clock = new FakeClock()
    await using bench = await connected(
      async (line) => {
        const { cookie } = await line.request()
        line.write(wire.data(cookie, 0, Buffer.alloc(8_192, 0xaa), true).subarray(0, 4_096))
        await line.read(28)
      },
      { clock, deadlineMs: 60_000 }
    )
    const target = Buffer.alloc(8_192)
    const controller = new AbortController()
    const read = bench.connection.read(0, target, controller)
    const outcome = assert.rejects(read, { message: 'enough' })
    while (target[0] !== 0xaa) await settle()
    controller.abort(new Error('enough'))
    await clock.advance(1_000)
    await outcome
    await assert.rejects(bench.connection.read(0, Buffer.alloc(512), wait), { code: 'E_UNAVAILABLE' })
  })

  it('lets go of what is written only when the socket has taken all of it, however early the answer', async () => {
    const order: string[] = []
    await using bench = await connected(async (line) => {
      const head = await line.read(28)
      line.write(wire.simple(head.readBigUInt64BE(8)))
      for (let turn = 0; turn < 20; turn++) await settle()
      order.push('payload taken')
      await line.read(1 << 20)
    })
    await bench.connection.write(0, Buffer.alloc(1 << 20), wait)
    order.push('written')
    assert.deepEqual(order, ['payload taken', 'written'])
  })

  it('keeps a waiting request that is aborted to itself', async () => {
    const types: number[] = []
    const gate = Promise.withResolvers<void>()
    await using bench = await connected(async (line) => {
      const asked: Asked[] = []
      while (asked.length < requestsInFlightMax) asked.push(await line.request())
      await gate.promise
      for (const { cookie, type } of asked) {
        types.push(type)
        line.write(wire.none(cookie))
      }
      types.push((await line.request()).type)
    })
    const writes = Array.from({ length: requestsInFlightMax }, () =>
      bench.connection.write(0, Buffer.alloc(512), wait)
    )
    const controller = new AbortController()
    const waiting = bench.connection.read(0, Buffer.alloc(512), controller)
    controller.abort(new Error('enough'))
    await assert.rejects(waiting, { message: 'enough' })
    const flush = bench.connection.flush(wait)
    flush.catch(() => undefined)
    gate.resolve()
    await Promise.all(writes)
    while (types.length <= requestsInFlightMax) await settle()
    assert.deepEqual(types, [...Array(requestsInFlightMax).fill(1), 3])
  })

  it('gives up a server that does not answer in time, with all that waits for it', async () => {
    const clock = new FakeClock()
    const asked = Promise.withResolvers<void>()
    await using bench = await connected(
      async (line) => {
        await line.request()
        await line.request()
        asked.resolve()
      },
      { clock, deadlineMs: 5_000 }
    )
    const reads = [0, 1].map((index) => bench.connection.read(index, Buffer.alloc(1), wait))
    const outcomes = reads.map((read) => assert.rejects(read, { code: 'E_TIMEOUT' }))
    await asked.promise
    await clock.advance(5_000)
    await Promise.all(outcomes)
    await assert.rejects(bench.connection.flush(wait), { code: 'E_UNAVAILABLE' })
    assert.equal(clock.pending, 0)
  })

  it('gives up a handshake that takes too long, or is aborted', async () => {
    await using server = await startScriptedServer(async (line) => {
      line.write(greeting)
      await line.read(1_000_000)
    })
    const clock = new FakeClock()
    const options = { socketPath: server.socketPath, exportName: '', clock, deadlineMs: 3_000 }
    const late = assert.rejects(connectNbd({ ...options, ...wait }), { code: 'E_TIMEOUT' })
    await clock.advance(3_000)
    await late
    const controller = new AbortController()
    const aborted = assert.rejects(connectNbd({ ...options, signal: controller.signal }), {
      message: 'enough'
    })
    controller.abort(new Error('enough'))
    await aborted
  })

  it('rejects everything when the server leaves, or says that it shuts down', async () => {
    for (const leave of [
      (line: Line) => line.cut(),
      (line: Line, { cookie }: Asked) => line.write(wire.simple(cookie, 108))
    ]) {
      await using bench = await connected(async (line) => {
        const write = await line.request()
        await line.request()
        leave(line, write)
      })
      const calls = [bench.connection.write(0, Buffer.alloc(1), wait), bench.connection.flush(wait)]
      for (const call of calls) await assert.rejects(call, { code: 'E_UNAVAILABLE' })
      await assert.rejects(bench.connection.flush(wait), { code: 'E_UNAVAILABLE' })
    }
  })

  it('finds nobody at a socket that is not there', async () => {
    const options = { socketPath: '/nonexistent/nbd.socket', exportName: '', ...wait }
    await assert.rejects(connectNbd(options), { code: 'E_UNAVAILABLE' })
  })

  it('rejects what is in flight when it is closed, and may be closed again', async () => {
    await using bench = await connected(async (line) => void (await line.request()))
    const read = assert.rejects(bench.connection.read(0, Buffer.alloc(1), wait), { code: 'E_UNAVAILABLE' })
    await bench.connection.close()
    await read
    await bench.connection.close()
  })
})
