// Answers in pieces to askers who do not read: they keep neither memory nor places, and others are told to wait.

import assert from 'node:assert/strict'
import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
import { connect, type Socket } from 'node:net'
import { describe, it } from 'node:test'
import fastify from 'fastify'
import { asHostletError } from '../../../src/errors.ts'
import { StreamAnswer } from '../../../src/scheduler/http/route.ts'
import {
  AnswerStreams,
  sendPieces,
  streamMsMax,
  streamsMax,
  streamsOfKeyMax
} from '../../../src/scheduler/http/stream-answer.ts'
import { FakeClock } from '../../support/fake-clock.ts'

/** Answers without an end to whoever asks, by the key in the path. */
class Endless implements AsyncDisposable {
  readonly clock = new FakeClock()
  readonly #server = fastify({ forceCloseConnections: true })
  readonly #streams = new AnswerStreams({ clock: this.clock })
  readonly #sockets: Socket[] = []
  /** Ends of sources that were read, as they come. */
  readonly #ends: (() => void)[] = []

  static async start(): Promise<Endless> {
    const endless = new Endless()
    await endless.#listen()
    return endless
  }

  async #listen(): Promise<void> {
    this.#server.get('/:key', async (request, reply) => {
      try {
        this.#streams.admit(reply, (request.params as { key: string }).key)
      } catch (error) {
        return reply.status(429).send(asHostletError(error).toReport())
      }
      return sendPieces(new StreamAnswer('text/plain', this.#pieces()), request, reply)
    })
    await this.#server.listen({ host: '127.0.0.1', port: 0 })
  }

  async *#pieces(): AsyncGenerator<string> {
    try {
      for (;;) yield 'x'.repeat(64_000)
    } finally {
      this.#ends.shift()?.()
    }
  }

  /** The first line of the answer; the rest is not read. */
  async ask(key: string, encoding = 'identity'): Promise<string> {
    const socket = connect((this.#server.server.address() as AddressInfo).port, '127.0.0.1')
    this.#sockets.push(socket)
    socket.on('error', () => undefined)
    socket.write(`GET /${key} HTTP/1.1\r\nhost: scheduler\r\naccept-encoding: ${encoding}\r\n\r\n`)
    await once(socket, 'readable')
    return String(socket.read(64)).split('\r\n')[0] ?? ''
  }

  /** Resolves when so many more answers are read no further. */
  async ended(count: number): Promise<void> {
    await Promise.all(Array.from({ length: count }, () => new Promise<void>((done) => this.#ends.push(done))))
  }

  /** The asker who came first goes away. */
  leave(): void {
    this.#sockets.shift()?.destroy()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const socket of this.#sockets) socket.destroy()
    await this.#server.close()
  }
}

const good = 'HTTP/1.1 200 OK'
const busy = 'HTTP/1.1 429 Too Many Requests'

describe('answers in pieces', { timeout: 30_000 }, () => {
  it('are on their way to one key, and to all, so many at once', async () => {
    await using endless = await Endless.start()
    for (let count = 0; count < streamsOfKeyMax; count++) assert.equal(await endless.ask('one'), good)
    assert.equal(await endless.ask('one'), busy)
    for (let count = streamsOfKeyMax; count < streamsMax; count++)
      assert.equal(await endless.ask('two'), good)
    assert.equal(await endless.ask('three'), busy)
  })

  it('give their place back when their asker goes away', async () => {
    await using endless = await Endless.start()
    for (let count = 0; count < streamsOfKeyMax; count++) await endless.ask('one')
    const ended = endless.ended(1)
    endless.leave()
    await ended
    assert.equal(await endless.ask('one'), good)
  })

  for (const encoding of ['identity', 'gzip'])
    it(`are cut when they are not read in time (${encoding})`, async () => {
      await using endless = await Endless.start()
      for (let count = 0; count < streamsOfKeyMax; count++) await endless.ask('one', encoding)
      const ended = endless.ended(streamsOfKeyMax)
      await endless.clock.advance(streamMsMax)
      await ended
      assert.equal(endless.clock.pending, 0)
      assert.equal(await endless.ask('one', encoding), good)
    })
})
