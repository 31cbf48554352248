/** FakeLibvirtd: a server on a unix socket that answers with bytes that a test wrote down. */
import { Buffer } from 'node:buffer'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { createServer, type Server, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type Connection, type ConnectOptions, connect } from '../../src/node-libvirt/index.ts'
import { hex } from './hex.ts'

const HEADER_BYTES = 28

/** A frame as the client sent it. */
export interface Request {
  readonly program: number
  readonly procedure: number
  readonly type: number
  readonly serial: number
  readonly status: number
  readonly payload: Buffer
}

/** Hex of the reply's payload, null for no reply at all, or a function that answers by itself. */
export type Answer = string | null | ((request: Request, server: FakeLibvirtd) => void)

const REMOTE = 0x20008086
export const KEEPALIVE = 0x6b656570
const uhyper9000000 = '0000000000895440' // 9.0.0

/** What the opening of a connection asks for. */
const opening: Readonly<Record<number, Answer>> = {
  66: '00000001 00000000', // AUTH_LIST: one, none
  1: '', // CONNECT_OPEN
  3: '00000004 54455354', // CONNECT_GET_TYPE: TEST
  4: uhyper9000000, // CONNECT_GET_VERSION
  157: uhyper9000000, // CONNECT_GET_LIB_VERSION
  60: '00000001', // CONNECT_SUPPORTS_FEATURE: yes
  2: (request, server) => {
    server.reply(request, '')
    server.hangUp()
  }
}

export class FakeLibvirtd implements AsyncDisposable {
  readonly #answers: Record<number, Answer>
  readonly #server: Server
  readonly #directory: string
  readonly #requests: Request[] = []
  readonly #waiting = new Set<() => void>()
  #socket: Socket | null = null
  #bytes = Buffer.alloc(0)
  #hungUp = false

  private constructor(directory: string, answers: Readonly<Record<number, Answer>>) {
    this.#directory = directory
    this.#answers = { ...opening, ...answers }
    this.#server = createServer((socket) => this.#accept(socket))
  }

  static async start(answers: Readonly<Record<number, Answer>> = {}): Promise<FakeLibvirtd> {
    const fake = new FakeLibvirtd(await mkdtemp(join(tmpdir(), 'fake-libvirtd-')), answers)
    fake.#server.listen(fake.socketPath)
    await once(fake.#server, 'listening')
    return fake
  }

  get socketPath(): string {
    return join(this.#directory, 'libvirt-sock')
  }

  get uri(): string {
    return `test:///default?socket=${this.socketPath}`
  }

  /** Everything received so far of one procedure, or all. */
  requests(procedure?: number): Request[] {
    return this.#requests.filter((request) => procedure === undefined || request.procedure === procedure)
  }

  /** Whether the client has closed its side. */
  get hungUp(): boolean {
    return this.#hungUp
  }

  connect(options: ConnectOptions = {}): Promise<Connection> {
    return connect(this.uri, options)
  }

  answer(procedure: number, answer: Answer): void {
    this.#answers[procedure] = answer
  }

  /** Waits until `count` requests of a procedure have come, and returns the last of them. */
  async received(procedure: number, count = 1): Promise<Request> {
    await this.until(() => this.requests(procedure).length >= count)
    return this.requests(procedure)[count - 1] as Request
  }

  async until(condition: () => boolean): Promise<void> {
    while (!condition()) await new Promise<void>((resolve) => this.#waiting.add(resolve))
  }

  reply(request: Request, payload: string, { status = 0, type = 1 } = {}): void {
    this.send(frame({ ...request, type, status }, hex(payload)))
  }

  /** Replies with a remote_error. */
  fail(request: Request, error: { code: number; domain: number; message: string }, { type = 1 } = {}): void {
    this.send(frame({ ...request, type, status: 1 }, errorPayload(error)))
  }

  /** Sends an event of the remote program; its serial is 1, as libvirtd's is. */
  event(procedure: number, payload: string): void {
    this.send(frame({ program: REMOTE, procedure, type: 2, serial: 1, status: 0 }, hex(payload)))
  }

  stream(request: Request, payload: Buffer, { status = 2, type = 3 } = {}): void {
    this.send(frame({ ...request, type, status }, payload))
  }

  keepalive(procedure: number): void {
    this.send(frame({ program: KEEPALIVE, procedure, type: 2, serial: 0, status: 0 }, hex('')))
  }

  send(bytes: Buffer): void {
    this.#socket?.write(bytes)
  }

  /** Stops reading what the client sends, so that its socket fills up. */
  pause(): void {
    this.#socket?.pause()
  }

  resume(): void {
    this.#socket?.resume()
  }

  hangUp(): void {
    this.#socket?.end()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#socket?.destroy()
    await new Promise((resolve) => this.#server.close(resolve))
    await rm(this.#directory, { recursive: true, force: true })
  }

  #accept(socket: Socket): void {
    this.#socket = socket
    socket.on('error', () => {}) // A client that vanishes is what some tests are about.
    socket.on('data', (chunk: Buffer) => this.#read(chunk))
    socket.on('close', () => {
      this.#hungUp = true
      this.#wake()
    })
  }

  #read(chunk: Buffer): void {
    this.#bytes = Buffer.concat([this.#bytes, chunk])
    while (this.#bytes.length >= HEADER_BYTES && this.#bytes.length >= this.#bytes.readUInt32BE(0)) {
      const length = this.#bytes.readUInt32BE(0)
      const request = requestOf(this.#bytes.subarray(0, length))
      this.#bytes = this.#bytes.subarray(length)
      this.#requests.push(request)
      if (request.type === 0) this.#answer(request)
      this.#wake()
    }
  }

  #answer(request: Request): void {
    const answer = this.#answers[request.procedure] ?? null
    if (typeof answer === 'function') answer(request, this)
    else if (answer !== null) this.reply(request, answer)
  }

  #wake(): void {
    for (const resolve of this.#waiting) resolve()
    this.#waiting.clear()
  }
}

/** A frame as libvirtd would send it. */
export function frame(header: Omit<Request, 'payload'>, payload: Buffer): Buffer {
  const bytes = Buffer.alloc(HEADER_BYTES)
  bytes.writeUInt32BE(HEADER_BYTES + payload.length, 0)
  bytes.writeUInt32BE(header.program, 4)
  bytes.writeUInt32BE(1, 8)
  bytes.writeInt32BE(header.procedure, 12)
  bytes.writeInt32BE(header.type, 16)
  bytes.writeUInt32BE(header.serial, 20)
  bytes.writeInt32BE(header.status, 24)
  return Buffer.concat([bytes, payload])
}

/** remote_error with a message, a level of 2 and one string. */
export function errorPayload({
  code,
  domain,
  message
}: {
  code: number
  domain: number
  message: string | Buffer
}): Buffer {
  return Buffer.concat([
    number(code),
    number(domain),
    number(1), // a message
    text(message),
    hex('00000002'), // level: error
    hex('00000000'), // no domain
    number(1), // str1
    text('detail'),
    hex('00000000 00000000'), // no str2, no str3
    hex('00000000 00000000'), // int1, int2
    hex('00000000') // no network
  ])
}

export function text(value: string | Buffer): Buffer {
  const bytes = typeof value === 'string' ? Buffer.from(value) : value
  return Buffer.concat([number(bytes.length), bytes, Buffer.alloc(-bytes.length & 3)])
}

export function number(value: number): Buffer {
  const bytes = Buffer.alloc(4)
  bytes.writeInt32BE(value)
  return bytes
}

function requestOf(bytes: Buffer): Request {
  return {
    program: bytes.readUInt32BE(4),
    procedure: bytes.readInt32BE(12),
    type: bytes.readInt32BE(16),
    serial: bytes.readUInt32BE(20),
    status: bytes.readInt32BE(24),
    payload: Buffer.from(bytes.subarray(HEADER_BYTES))
  }
}
