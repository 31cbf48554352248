// A small agent: enrolls with a real certificate request and speaks the protocol over a real socket.

import '../../../src/lib/reflect-metadata.ts'
import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { EventEmitter, once } from 'node:events'
import type { IncomingMessage } from 'node:http'
import { PemConverter, Pkcs10CertificateRequestGenerator } from '@peculiar/x509'
import { compactVerify, importJWK } from 'jose'
import { WebSocket } from 'ws'
import type { ErrorReport } from '../../../src/errors.ts'
import { type CommandClaims, CommandClaims as CommandClaimsSchema } from '../../../src/protocol/command.ts'
import { type ConsoleFrame, decodeConsoleFrame, encodeConsoleFrame } from '../../../src/protocol/console.ts'
import type { EnrollmentReply } from '../../../src/protocol/enrollment.ts'
import type {
  AgentMessage,
  AgentMessageOf,
  SchedulerMessage,
  SchedulerMessageOf
} from '../../../src/protocol/messages.ts'
import { compile, parseSchedulerMessage } from '../../../src/protocol/validate.ts'
import type { ApiClient } from './api-client.ts'
import { hostFacts } from './samples.ts'

const readClaims = compile(CommandClaimsSchema, 'claims')
const algorithm = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' } as const

export const agentVerbs = [
  'vm.provision',
  'vm.start',
  'vm.stop',
  'vm.reboot',
  'vm.resize',
  'vm.teardown',
  'vm.undelete',
  'vm.reimage',
  'vm.rekey',
  'vm.state',
  'vm.specification',
  'vm.audit',
  'vm.console',
  'vm.list',
  'vm.backup',
  'vm.restore',
  'vm.backup-schedule',
  'vm.adopt-keys',
  'backup.list',
  'backup.verify',
  'backup.prune',
  'backup.export',
  'operation.cancel',
  'operation.plan',
  'image.prefetch',
  'host.facts',
  'host.rotate-key',
  'host.clean',
  'vm.repair',
  'host.drain',
  'host.resume'
]

export interface KeyPair {
  readonly keys: { readonly publicKey: CryptoKey; readonly privateKey: CryptoKey }
  readonly keyPem: string
}

export async function createKeyPair(): Promise<KeyPair> {
  const keys = await crypto.subtle.generateKey(algorithm, true, ['sign', 'verify'])
  const keyPem = PemConverter.encode(await crypto.subtle.exportKey('pkcs8', keys.privateKey), 'PRIVATE KEY')
  return { keys, keyPem }
}

export async function createRequest({ keys }: KeyPair): Promise<string> {
  const request = await Pkcs10CertificateRequestGenerator.create({
    name: 'CN=whatever the host says',
    keys,
    signingAlgorithm: algorithm
  })
  return request.toString('pem')
}

export async function enrollAgent(options: {
  api: ApiClient
  token: string
  hostname: string
  address: () => string
}): Promise<TestAgent> {
  const pair = await createKeyPair()
  const reply = await options.api.post<EnrollmentReply>('/v1/enroll', {
    token: options.token,
    certificateRequest: await createRequest(pair),
    hostname: options.hostname,
    agentVersion: '0.1.0'
  })
  return new TestAgent({ reply, keyPem: pair.keyPem, address: options.address })
}

export interface AgentOptions {
  readonly reply: EnrollmentReply
  readonly keyPem: string
  readonly address: () => string
}

export class TestAgent {
  readonly id: string
  readonly reply: EnrollmentReply
  readonly keyPem: string
  instance = randomUUID()
  /** Frames of consoles that have come. */
  readonly frames: ConsoleFrame[] = []
  readonly #address: () => string
  readonly #received: SchedulerMessage[] = []
  readonly #arrivals = new EventEmitter<{ message: [] }>()
  #socket: WebSocket | undefined

  constructor({ reply, keyPem, address }: AgentOptions) {
    this.id = reply.hostId
    this.reply = reply
    this.keyPem = keyPem
    this.#address = address
  }

  get url(): string {
    return `${this.#address().replace('https:', 'wss:')}/v1/agent`
  }

  get socket(): WebSocket {
    assert.ok(this.#socket, 'the agent is not connected')
    return this.#socket
  }

  /** Opens the socket and says nothing. */
  async dial(): Promise<void> {
    this.#received.length = 0
    const socket = new WebSocket(this.url, 'hostlet.v1', {
      ca: this.reply.caCertificate,
      cert: this.reply.certificate,
      key: this.keyPem,
      perMessageDeflate: false
    })
    this.#socket = socket
    socket.on('message', (data, isBinary) => {
      if (isBinary) this.frames.push(decodeConsoleFrame(data as Buffer))
      else this.#received.push(parseSchedulerMessage(data.toString()))
      this.#arrivals.emit('message')
    })
    await once(socket, 'open')
  }

  async connect(): Promise<SchedulerMessageOf<'welcome'>> {
    await this.dial()
    this.send(this.hello())
    return this.next('welcome')
  }

  hello(): AgentMessageOf<'hello'> {
    return {
      type: 'hello',
      protocol: 1,
      agentVersion: '0.1.0',
      hostId: this.id,
      instance: this.instance,
      sentAt: Date.now(),
      verbs: agentVerbs
    }
  }

  send(message: AgentMessage): void {
    this.socket.send(JSON.stringify(message))
  }

  sendText(text: string): void {
    this.socket.send(text)
  }

  sendInventory(inventory: Partial<AgentMessageOf<'inventory'>> = {}): void {
    this.send({
      type: 'inventory',
      at: Date.now(),
      facts: hostFacts(this.id),
      vms: [],
      foreign: [],
      ...inventory
    })
  }

  sendFrame(frame: ConsoleFrame): void {
    this.socket.send(encodeConsoleFrame(frame))
  }

  /** The next frame of a console of that type; others that came before it are passed over. */
  async nextFrame<Type extends ConsoleFrame['type']>(
    type: Type
  ): Promise<Extract<ConsoleFrame, { type: Type }>> {
    for (;;) {
      const frame = this.frames.shift()
      if (frame?.type === type) return frame as Extract<ConsoleFrame, { type: Type }>
      if (frame === undefined) await once(this.#arrivals, 'message')
    }
  }

  /** The next message of that type; others that came before it are passed over. */
  async next<Type extends SchedulerMessage['type']>(type: Type): Promise<SchedulerMessageOf<Type>> {
    for (;;) {
      const index = this.#received.findIndex((message) => message.type === type)
      const [found] = index < 0 ? [] : this.#received.splice(0, index + 1).slice(-1)
      if (found !== undefined) return found as SchedulerMessageOf<Type>
      await once(this.#arrivals, 'message')
    }
  }

  /** Resolves when everything sent so far is handled: results are acknowledged in order. */
  async sync(): Promise<void> {
    const command = randomUUID()
    this.send({
      type: 'result',
      result: { command, outcome: 'done', value: {}, startedAt: 1, finishedAt: 1 }
    })
    while ((await this.next('result-ack')).command !== command);
  }

  /** Messages of that type that have come and were not asked for with `next`. */
  unread<Type extends SchedulerMessage['type']>(type: Type): SchedulerMessageOf<Type>[] {
    return this.#received.filter((message): message is SchedulerMessageOf<Type> => message.type === type)
  }

  /** The next command, its signature verified with the key that enrollment gave. */
  async nextCommand(): Promise<{ claims: CommandClaims; jws: string }> {
    const { jws } = await this.next('command')
    const [key] = this.reply.commandKeys
    assert.ok(key)
    const { payload, protectedHeader } = await compactVerify(jws, await importJWK({ ...key }, 'EdDSA'), {
      algorithms: ['EdDSA']
    })
    assert.deepEqual(protectedHeader, { alg: 'EdDSA', kid: key.kid, typ: 'hostlet-command+jwt' })
    return { claims: readClaims(JSON.parse(new TextDecoder().decode(payload))), jws }
  }

  acknowledge(command: string, repeated = false): void {
    this.send({ type: 'ack', command, repeated })
  }

  finish(command: string, value: Record<string, unknown> = {}, finishedAt = Date.now()): void {
    this.send({
      type: 'result',
      result: { command, outcome: 'done', value, startedAt: finishedAt, finishedAt }
    })
  }

  /** Without an id as an agent refuses what it has not read. */
  refuse(command: string | undefined, error: ErrorReport): void {
    this.send({ type: 'refusal', ...(command && { command }), error })
  }

  heartbeat(
    changes: Partial<Pick<AgentMessageOf<'heartbeat'>, 'operationsRunning' | 'drainingSince' | 'waits'>> = {}
  ): void {
    const operations = { operationsRunning: 0, operationsWaiting: 0, ...changes }
    this.send({ type: 'heartbeat', sentAt: 1, ...operations, hypervisor: 'connected', conditions: [] })
  }

  fail(command: string, error: { code: 'E_CORRUPT' | 'E_TIMEOUT'; message: string }): void {
    const now = Date.now()
    this.send({
      type: 'result',
      result: { command, outcome: 'failed', error, startedAt: now, finishedAt: now }
    })
  }

  /** The code and reason with which the other side closed. */
  async closed(): Promise<{ code: number; reason: string }> {
    const [code, reason] = (await once(this.socket, 'close')) as [number, Buffer]
    return { code, reason: reason.toString() }
  }

  async disconnect(): Promise<void> {
    const closed = this.closed()
    this.socket.close(1000)
    await closed
  }

  hangUp(): void {
    this.#socket?.terminate()
  }
}

/** Tries to open an agent socket that is to be refused; resolves with the answer. */
export async function refusedUpgrade(
  url: string,
  tls: { ca: string; cert?: string; key?: string },
  protocols: string[] = ['hostlet.v1']
): Promise<{ status: number; body: unknown }> {
  const socket = new WebSocket(url, protocols, { ...tls, perMessageDeflate: false })
  socket.on('error', () => undefined)
  const [, response] = (await once(socket, 'unexpected-response')) as [unknown, IncomingMessage]
  const chunks: Buffer[] = []
  for await (const chunk of response) chunks.push(chunk as Buffer)
  return { status: response.statusCode ?? 0, body: JSON.parse(Buffer.concat(chunks).toString()) }
}
