// An NBD server that says what a test tells it to, byte by byte, over a real socket.

import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { type AddressInfo, createServer, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

export interface Asked {
  readonly type: number
  readonly cookie: bigint
  readonly offset: number
  readonly length: number
  readonly payload: Buffer
}

/** The server's end of one connection. */
export class Line {
  readonly #socket: Socket
  readonly #chunks: AsyncIterator<Buffer>
  #left = Buffer.alloc(0)
  /** Bytes that may still be written; then the connection is cut. */
  #budget: number

  constructor(socket: Socket, budget: number) {
    this.#socket = socket
    this.#budget = budget
    this.#chunks = socket[Symbol.asyncIterator]()
  }

  async read(length: number): Promise<Buffer> {
    while (this.#left.length < length) {
      const { done, value } = await this.#chunks.next()
      if (done) throw new Error('the client has gone')
      this.#left = Buffer.concat([this.#left, value])
    }
    const bytes = this.#left.subarray(0, length)
    this.#left = this.#left.subarray(length)
    return bytes
  }

  write(...parts: readonly Uint8Array[]): void {
    const bytes = Buffer.concat(parts)
    this.#socket.write(bytes.subarray(0, this.#budget))
    this.#budget -= bytes.length
    if (this.#budget < 0) this.cut()
  }

  /** What was written arrives first. */
  cut(): void {
    this.#socket.destroySoon()
  }

  async option(): Promise<{ option: number; data: Buffer }> {
    const head = await this.read(16)
    return { option: head.readUInt32BE(8), data: await this.read(head.readUInt32BE(12)) }
  }

  async request(): Promise<Asked> {
    const head = await this.read(28)
    const type = head.readUInt16BE(6)
    const length = head.readUInt32BE(24)
    const payload = type === 1 ? await this.read(length) : Buffer.alloc(0)
    return {
      type,
      cookie: head.readBigUInt64BE(8),
      offset: Number(head.readBigUInt64BE(16)),
      length,
      payload
    }
  }
}

export type Script = (line: Line, connection: number) => Promise<void>

export interface ScriptedServer extends AsyncDisposable {
  readonly socketPath: string
  /** On this machine, where it was asked for TCP. */
  readonly port: number
  /** What scripts threw; a client that leaves makes them throw, which is no fault. */
  readonly thrown: unknown[]
}

export async function startScriptedServer(
  script: Script,
  { budget = Number.POSITIVE_INFINITY, tcp = false }: { budget?: number; tcp?: boolean } = {}
): Promise<ScriptedServer> {
  const directory = mkdtempSync(join(tmpdir(), 'hostlet-nbd-test-'))
  const socketPath = join(directory, 'nbd.socket')
  const sockets = new Set<Socket>()
  const thrown: unknown[] = []
  const server = createServer((socket) => {
    sockets.add(socket)
    socket.on('error', () => undefined)
    script(new Line(socket, budget), sockets.size).catch((error: unknown) => thrown.push(error))
  })
  server.listen(tcp ? { host: '127.0.0.1', port: 0 } : { path: socketPath })
  await once(server, 'listening')
  return {
    socketPath,
    port: tcp ? (server.address() as AddressInfo).port : 0,
    thrown,
    [Symbol.asyncDispose]: async () => {
      for (const socket of sockets) socket.destroy()
      server.close()
      await once(server, 'close')
      rmSync(directory, { recursive: true, force: true })
    }
  }
}

export function u16(value: number): Buffer {
  const bytes = Buffer.alloc(2)
  bytes.writeUInt16BE(value)
  return bytes
}

export function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4)
  bytes.writeUInt32BE(value)
  return bytes
}

export function u64(value: number | bigint): Buffer {
  const bytes = Buffer.alloc(8)
  bytes.writeBigUInt64BE(BigInt(value))
  return bytes
}

export const greeting = Buffer.concat([Buffer.from('NBDMAGICIHAVEOPT'), u16(3)])

export function optionReply(option: number, type: number, payload: Uint8Array = Buffer.alloc(0)): Buffer {
  const head = [u64(0x0003e889045565a9n), u32(option), u32(type), u32(payload.length)]
  return Buffer.concat([...head, payload])
}

/** The information of the export: kind 0, size, flags. */
export const exportInformation = (size: number | bigint, flags: number) =>
  Buffer.concat([u16(0), u64(size), u16(flags)])

export const blockSizes = (least: number, preferred: number, most: number) =>
  Buffer.concat([u16(3), u32(least), u32(preferred), u32(most)])

export interface Honest {
  readonly sizeBytes?: number
  readonly flags?: number
  readonly structured?: boolean
  /** By number; those that the client asks for. */
  readonly contexts?: Readonly<Record<number, string>>
}

/** Flags of a writable export that can flush and write zeros. */
export const plainFlags = 0b100_0101

/** What an honest server does until transmission. */
export async function agree(line: Line, honest: Honest = {}): Promise<void> {
  const { sizeBytes = 1 << 20, flags = plainFlags, structured = true, contexts = {} } = honest
  line.write(greeting)
  await line.read(4)
  for (;;) {
    const { option, data } = await line.option()
    if (option === 8) line.write(optionReply(8, structured ? 1 : 0x8000_0001))
    else if (option === 10) {
      const wanted = Object.entries(contexts).filter(([, name]) => data.includes(name))
      for (const [id, name] of wanted)
        line.write(optionReply(10, 4, Buffer.concat([u32(Number(id)), Buffer.from(name)])))
      line.write(optionReply(10, 1))
    } else {
      line.write(optionReply(7, 3, exportInformation(sizeBytes, flags)))
      line.write(optionReply(7, 3, blockSizes(1, 4096, 32 << 20)), optionReply(7, 1))
      return
    }
  }
}

function piece(cookie: bigint, type: number, payload: Uint8Array, done: boolean, flags = 0): Buffer {
  const head = [u32(0x668e33ef), u16(flags | (done ? 1 : 0)), u16(type), u64(cookie), u32(payload.length)]
  return Buffer.concat([...head, payload])
}

/** Pieces of structured replies, and simple ones. `done` marks the last. */
export const wire = {
  piece,
  none: (cookie: bigint) => piece(cookie, 0, Buffer.alloc(0), true),
  data: (cookie: bigint, offset: number | bigint, bytes: Uint8Array, done = false) =>
    piece(cookie, 1, Buffer.concat([u64(offset), bytes]), done),
  hole: (cookie: bigint, offset: number | bigint, length: number, done = false) =>
    piece(cookie, 2, Buffer.concat([u64(offset), u32(length)]), done),
  status: (cookie: bigint, context: number, runs: readonly (readonly [number, number])[], done = false) =>
    piece(cookie, 5, Buffer.concat([u32(context), ...runs.flatMap((run) => run.map(u32))]), done),
  error: (cookie: bigint, error: number, message = '', done = true) =>
    piece(cookie, 0x8001, Buffer.concat([u32(error), u16(message.length), Buffer.from(message)]), done),
  simple: (cookie: bigint, error = 0) => Buffer.concat([u32(0x67446698), u32(error), u64(cookie)])
} as const
