/** The NBD client against servers that lie, stop or cut the line: each ends with the right error, and nothing hangs. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { connectNbd, type NbdConnection } from '../../../src/backup/nbd/connection.ts'
import { listNbdExports } from '../../../src/backup/nbd/exports.ts'
import {
  type Asked,
  agree,
  blockSizes,
  exportInformation,
  greeting,
  type Line,
  optionReply,
  plainFlags,
  startScriptedServer,
  u16,
  u32,
  u64,
  wire
} from './scripted-server.ts'

const wait = { signal: new AbortController().signal }
const bytes = (length: number) => Buffer.alloc(length, 0xaa)
const contexts = { 5: 'base:allocation', 9: 'qemu:dirty-bitmap:b' }
const contextNames = Object.values(contexts)
const readLength = 4_096
const guard = 64

type Reply = (asked: Asked) => readonly Buffer[]

const { piece, data, hole, none, error, simple, status } = wire

/** Answers to a read of 4,096 bytes at 8,192. */
const liesToRead: Readonly<Record<string, Reply>> = {
  'no magic': () => [Buffer.alloc(20, 0x11)],
  'magic of a request': ({ cookie }) => [u32(0x25609513), u32(0), u64(cookie)],
  'another cookie': ({ cookie, offset }) => [data(cookie + 1n, offset, bytes(readLength), true)],
  'a cookie with high bits': ({ cookie, offset }) => [
    data(cookie + (1n << 32n), offset, bytes(readLength), true)
  ],
  'a simple reply': ({ cookie }) => [simple(cookie), bytes(readLength)],
  'a simple error': ({ cookie }) => [simple(cookie, 5)],
  'an end with nothing': ({ cookie }) => [none(cookie)],
  'an end with a byte missing': ({ cookie, offset }) => [data(cookie, offset, bytes(readLength - 1), true)],
  'an end with a hole missing': ({ cookie, offset }) => [
    data(cookie, offset, bytes(1_000)),
    data(cookie, offset + 1_001, bytes(readLength - 1_001), true)
  ],
  'data before the range': ({ cookie, offset }) => [data(cookie, offset - 1, bytes(16), true)],
  'data behind the range': ({ cookie, offset }) => [data(cookie, offset + readLength, bytes(16), true)],
  'data longer than the range': ({ cookie, offset }) => [data(cookie, offset, bytes(readLength + 1), true)],
  'data at an offset beyond all': ({ cookie }) => [data(cookie, (1n << 64n) - 1n, bytes(16), true)],
  'data of 4 GiB': ({ cookie, offset }) => [
    ...[u32(0x668e33ef), u16(1), u16(1), u64(cookie), u32(0xffff_ffff), u64(offset), bytes(64)]
  ],
  'data of no bytes': ({ cookie, offset }) => [data(cookie, offset, bytes(0)), none(cookie)],
  'data shorter than its offset': ({ cookie }) => [piece(cookie, 1, bytes(7), true), bytes(64)],
  'data twice': ({ cookie, offset }) => [
    data(cookie, offset, bytes(512)),
    data(cookie, offset, bytes(512), true)
  ],
  'data that overlaps': ({ cookie, offset }) => [
    data(cookie, offset, bytes(512)),
    data(cookie, offset + 511, bytes(512), true)
  ],
  'a hole over data': ({ cookie, offset }) => [
    data(cookie, offset + 100, bytes(512)),
    hole(cookie, offset, readLength, true)
  ],
  'a hole of no bytes': ({ cookie, offset }) => [hole(cookie, offset, 0), none(cookie)],
  'a hole of 4 GiB': ({ cookie, offset }) => [hole(cookie, offset, 0xffff_ffff, true)],
  'a hole of the wrong form': ({ cookie }) => [piece(cookie, 2, bytes(13), true)],
  'status instead of data': ({ cookie }) => [status(cookie, 5, [[512, 0]], true)],
  'a piece of an unknown type': ({ cookie }) => [piece(cookie, 77, bytes(4), true)],
  'an end that is not the end': ({ cookie }) => [piece(cookie, 0, Buffer.alloc(0), false)],
  'an end with a payload': ({ cookie }) => [piece(cookie, 0, bytes(4), true)],
  'an error that is none': ({ cookie }) => [error(cookie, 0)],
  'an error with a text longer than itself': ({ cookie }) => [
    piece(cookie, 0x8001, Buffer.concat([u32(5), u16(100), bytes(10)]), true)
  ],
  'an error with a text that never ends': ({ cookie }) => [
    piece(cookie, 0x8001, Buffer.concat([u32(5), u16(60_000), bytes(60_000)]), true)
  ],
  'an error without its offset': ({ cookie }) => [
    piece(cookie, 0x8002, Buffer.concat([u32(5), u16(0)]), true)
  ],
  'an unknown error of megabytes': ({ cookie }) => [
    ...[u32(0x668e33ef), u16(1), u16(0x9999), u64(cookie), u32(64 << 20), u32(5), u16(0)]
  ],
  'errors without end': ({ cookie }) => Array(66_000).fill(error(cookie, 5, '', false)),
  'more gaps than one can count': ({ cookie, offset }) =>
    Array.from({ length: 1_100 }, (_, index) => data(cookie, offset + index * 2, bytes(1))),
  'an answer after the answer': ({ cookie, offset }) => [
    hole(cookie, offset, readLength - 1, false),
    hole(cookie + 1n, offset, 1, true)
  ]
}

/** Answers to a question of status over 4,096 bytes. */
const liesToStatus: Readonly<Record<string, Reply>> = {
  'a status of no bytes': ({ cookie }) => [status(cookie, 5, [[0, 0]])],
  'a status of no runs': ({ cookie }) => [status(cookie, 5, [])],
  'half a run': ({ cookie }) => [
    piece(cookie, 5, Buffer.concat([u32(5), u32(512), u32(0), u32(512)]), false)
  ],
  'runs beyond the end': ({ cookie }) => [
    status(cookie, 5, [
      [4_096, 0],
      [512, 0]
    ])
  ],
  'runs of 4 GiB': ({ cookie }) => [
    status(cookie, 5, [
      [0xffff_ffff, 0],
      [0xffff_ffff, 0]
    ])
  ],
  'a context that was not agreed': ({ cookie }) => [status(cookie, 6, [[4_096, 0]])],
  'a context twice': ({ cookie }) => [status(cookie, 5, [[512, 0]]), status(cookie, 5, [[512, 0]])],
  'a context missing': ({ cookie }) => [status(cookie, 5, [[4_096, 0]], true)],
  'no context': ({ cookie }) => [none(cookie)],
  'runs without end': ({ cookie }) => [
    ...[u32(0x668e33ef), u16(0), u16(5), u64(cookie), u32(0xffff_fffc), u32(5), bytes(64)]
  ],
  'a simple reply': ({ cookie }) => [simple(cookie)],
  'data instead of status': ({ cookie, offset }) => [data(cookie, offset, bytes(512), true)]
}

const size = 1 << 20
const honestInformation = optionReply(7, 3, exportInformation(size, plainFlags))

/** What comes in place of an honest handshake, by how far the client is. */
const liesToHandshake: Readonly<Record<string, readonly Buffer[]>> = {
  'another greeting': [Buffer.from('SSH-2.0-OpenSSH_9.2p1 Debian')],
  'the old style': [Buffer.from('NBDMAGIC'), u64(0x00420281861253n), Buffer.alloc(140)],
  'no fixed newstyle': [Buffer.from('NBDMAGICIHAVEOPT'), u16(0)],
  'an option reply without magic': [greeting, Buffer.alloc(20)],
  'a reply to another option': [greeting, optionReply(7, 1)],
  'a reply of an odd type': [greeting, optionReply(8, 55)],
  'an acknowledgement with a payload': [greeting, optionReply(8, 1, bytes(4))],
  'a reply that is too long': [greeting, u64(0x0003e889045565a9n), u32(8), u32(1), u32(0xffff_ffff)],
  'a context without a number': [greeting, optionReply(8, 1), optionReply(10, 4, bytes(3))],
  'a context that was not asked for': [
    ...[greeting, optionReply(8, 1)],
    optionReply(10, 4, Buffer.concat([u32(1), Buffer.from('base:nothing')]))
  ],
  'a context twice': [
    ...[greeting, optionReply(8, 1)],
    ...[1, 2].map((id) => optionReply(10, 4, Buffer.concat([u32(id), Buffer.from('base:allocation')])))
  ],
  'two contexts of one number': [
    ...[greeting, optionReply(8, 1)],
    ...contextNames.map((name) => optionReply(10, 4, Buffer.concat([u32(1), Buffer.from(name)])))
  ],
  ...Object.fromEntries(
    Object.entries({
      'no word about the export': [optionReply(7, 1)],
      'an export of 2^63 bytes': [optionReply(7, 3, exportInformation(1n << 63n, plainFlags))],
      'information cut short': [optionReply(7, 3, exportInformation(size, plainFlags).subarray(0, 11))],
      'information of one byte': [optionReply(7, 3, bytes(1))],
      'flags without their mark': [optionReply(7, 3, exportInformation(size, 0)), optionReply(7, 1)],
      'block sizes of zero': [optionReply(7, 3, blockSizes(0, 0, 0))],
      'block sizes that are no power of two': [optionReply(7, 3, blockSizes(3, 4_096, 1 << 20))],
      'block sizes upside down': [optionReply(7, 3, blockSizes(4_096, 512, 1 << 20))],
      'block sizes cut short': [optionReply(7, 3, blockSizes(1, 4_096, 1 << 20).subarray(0, 10))],
      'endless information': Array<Buffer>(1_100).fill(honestInformation),
      'an odd word about the export': [optionReply(7, 2, bytes(8))]
    }).map(([name, parts]) => [
      name,
      [greeting, optionReply(8, 1), optionReply(10, 1), ...(parts as Buffer[])]
    ])
  )
}

async function againstReply(
  reply: Reply,
  act: (connection: NbdConnection) => Promise<unknown>
): Promise<void> {
  await using server = await startScriptedServer(async (line) => {
    await agree(line, { contexts })
    line.write(...reply(await line.request()))
  })
  const options = { socketPath: server.socketPath, exportName: '', contexts: contextNames }
  const connection = await connectNbd({ ...options, ...wait })
  await assert.rejects(act(connection), { code: 'E_PROTOCOL' })
  await assert.rejects(connection.flush(wait), { code: 'E_UNAVAILABLE' })
  await connection.close()
}

describe('lies of an NBD server', { timeout: 60_000 }, () => {
  for (const [lie, reply] of Object.entries(liesToRead)) {
    it(`refuses ${lie} as an answer to a read, and writes nowhere else`, async () => {
      const memory = Buffer.alloc(readLength + 2 * guard, 0x55)
      await againstReply(reply, (connection) =>
        connection.read(8_192, memory.subarray(guard, guard + readLength), wait)
      )
      const around = [memory.subarray(0, guard), memory.subarray(guard + readLength)]
      assert.ok(Buffer.concat(around).every((byte) => byte === 0x55))
    })
  }

  for (const [lie, reply] of Object.entries(liesToStatus)) {
    it(`refuses ${lie} as an answer to a question of status`, async () => {
      await againstReply(reply, (connection) => connection.blockStatus(0, 4_096, wait))
    })
  }

  for (const [lie, parts] of Object.entries(liesToHandshake)) {
    it(`refuses ${lie} in the handshake`, async () => {
      await using server = await startScriptedServer(async (line) => line.write(...parts))
      const options = { socketPath: server.socketPath, exportName: '', contexts: contextNames }
      await assert.rejects(connectNbd({ ...options, ...wait }), { code: 'E_PROTOCOL' })
    })
  }

  it('refuses data as an answer to a write, and a structured reply that was not agreed', async () => {
    for (const structured of [true, false]) {
      await using server = await startScriptedServer(async (line) => {
        await agree(line, { structured })
        const { cookie } = await line.request()
        line.write(structured ? data(cookie, 0, bytes(16), true) : none(cookie))
      })
      const connection = await connectNbd({ socketPath: server.socketPath, exportName: '', ...wait })
      await assert.rejects(connection.write(0, bytes(16), wait), { code: 'E_PROTOCOL' })
      await connection.close()
    }
  })

  it('ignores flags that it does not know, of replies and of the export', async () => {
    await using server = await startScriptedServer(async (line) => {
      await agree(line, { flags: 0xffff & ~0b10 })
      const { cookie, offset } = await line.request()
      const payload = Buffer.concat([u64(offset), bytes(512)])
      line.write(piece(cookie, 1, payload, true, 0xfffe))
    })
    const connection = await connectNbd({ socketPath: server.socketPath, exportName: '', ...wait })
    const target = Buffer.alloc(512)
    await connection.read(0, target, wait)
    assert.deepEqual(target, bytes(512))
    await connection.close()
  })

  it('says what the server refuses', async () => {
    for (const [type, code] of [
      [0x8000_0006, 'E_NOT_FOUND'],
      [0x8000_0005, 'E_AUTH'],
      [0x8000_0007, 'E_UNAVAILABLE'],
      [0x8000_1234, 'E_UNSUPPORTED']
    ] as const) {
      const refusal = optionReply(7, type, Buffer.from('no such thing'))
      await using server = await startScriptedServer(async (line) =>
        line.write(greeting, optionReply(8, 1), refusal)
      )
      const options = { socketPath: server.socketPath, exportName: 'disk' }
      await assert.rejects(connectNbd({ ...options, ...wait }), { code, message: /"disk".*no such thing/ })
    }
  })

  it('refuses a list of exports that does not end, or whose names do not fit', async () => {
    const entry = (length: number) => optionReply(3, 2, Buffer.concat([u32(length), Buffer.from('name')]))
    for (const parts of [Array<Buffer>(1_100).fill(entry(4)), [entry(5)], [optionReply(3, 2, bytes(2))]]) {
      await using server = await startScriptedServer(async (line) => line.write(greeting, ...parts))
      await assert.rejects(listNbdExports({ socketPath: server.socketPath, ...wait }), { code: 'E_PROTOCOL' })
    }
  })
})

describe('a line that is cut', { timeout: 120_000 }, () => {
  /** All that can be asked, one after another. */
  async function everything(socketPath: string): Promise<void> {
    const options = { socketPath, exportName: '', contexts: contextNames }
    const connection = await connectNbd({ ...options, ...wait })
    try {
      await connection.blockStatus(0, 4_096, wait)
      await connection.read(0, Buffer.alloc(24), wait)
      await connection.write(0, Buffer.alloc(8), wait)
    } finally {
      await connection.close()
    }
  }

  async function honest(line: Line): Promise<void> {
    await agree(line, { contexts })
    const asked = await line.request()
    line.write(status(asked.cookie, 5, [[4_096, 0]]), status(asked.cookie, 9, [[4_096, 1]], true))
    const { cookie } = await line.request()
    line.write(hole(cookie, 8, 8), data(cookie, 0, bytes(8)), data(cookie, 16, bytes(8)), none(cookie))
    line.write(simple((await line.request()).cookie))
  }

  it('is E_UNAVAILABLE after every byte of an honest server', async () => {
    let cuts = 0
    for (; cuts < 2_000; cuts++) {
      await using server = await startScriptedServer(honest, { budget: cuts })
      const outcome = await everything(server.socketPath).then(
        () => 'done',
        (error: { code: string }) => error.code
      )
      if (outcome === 'done') break
      assert.equal(outcome, 'E_UNAVAILABLE', `cut after ${cuts} bytes`)
    }
    assert.ok(cuts > 300 && cuts < 2_000, `the whole talk has ${cuts} bytes`)
  })
})
