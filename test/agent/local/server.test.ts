// The agent's local socket: who may ask what, what is left of an earlier agent, and an agent that does without.

import assert from 'node:assert/strict'
import { once } from 'node:events'
import { existsSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { request } from 'node:http'
import { connect, createServer, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import {
  connectionMsMax,
  connectionsMax,
  type LocalRoute,
  LocalServer
} from '../../../src/agent/local/server.ts'
import { HostletError } from '../../../src/errors.ts'
import { systemClock } from '../../../src/lib/clock.ts'
import { silentLogger } from '../../../src/lib/log.ts'
import { FakeClock } from '../../support/fake-clock.ts'

const log = silentLogger
const options = { log, clock: systemClock }
let count = 0

describe('the local socket', () => {
  let directory: string

  before(() => {
    directory = mkdtempSync(join(tmpdir(), 'hostlet-local-'))
  })
  after(() => rmSync(directory, { recursive: true, force: true }))

  const newPath = () => join(directory, `agent-${count++}.sock`)
  const echo: LocalRoute = {
    path: '/echo',
    handle: async (query) => ({ type: 'text/plain', body: query.get('say') ?? '' })
  }

  it('is for its owner and group, and gone with its server', async () => {
    const path = newPath()
    {
      await using server = await LocalServer.open(path, options)
      server.mount([echo])
      assert.equal(statSync(path).mode & 0o777, 0o660)
      assert.deepEqual(await ask(path, '/echo?say=hello'), { status: 200, type: 'text/plain', body: 'hello' })
      assert.equal(server.fault, undefined)
    }
    assert.equal(existsSync(path), false)
  })

  it('says that the agent is starting until there is something to tell', async () => {
    const path = newPath()
    await using server = await LocalServer.open(path, options)
    const early = await ask(path, '/echo')
    assert.equal(early.status, 503)
    assert.match(early.body, /the agent is starting/)
    server.mount([echo])
    assert.equal((await ask(path, '/echo')).status, 200)
  })

  it('only looks, and names what there is to look at', async () => {
    const path = newPath()
    await using server = await LocalServer.open(path, options)
    server.mount([echo])
    for (const method of ['POST', 'PUT', 'DELETE'])
      assert.match((await ask(path, '/echo', method)).body, /E_UNSUPPORTED.*only takes GET/)
    const unknown = await ask(path, '/nothing')
    assert.equal(unknown.status, 404)
    assert.match(unknown.body, /only \/echo/)
  })

  it('answers with the error of a route, and with a status that fits', async () => {
    const path = newPath()
    await using server = await LocalServer.open(path, options)
    const fail = async () => {
      throw new HostletError('E_BAD_REQUEST', 'not like that')
    }
    server.mount([{ path: '/fails', handle: fail }])
    const { status, body } = await ask(path, '/fails')
    assert.equal(status, 400)
    assert.deepEqual(JSON.parse(body), { error: { code: 'E_BAD_REQUEST', message: 'not like that' } })
  })

  it('lets a route know that nobody waits any more', async () => {
    const path = newPath()
    await using server = await LocalServer.open(path, options)
    const asked = Promise.withResolvers<void>()
    const gone = Promise.withResolvers<unknown>()
    server.mount([
      {
        path: '/waits',
        handle: async (_query, signal) => {
          signal.addEventListener('abort', () => gone.resolve(signal.reason), { once: true })
          asked.resolve()
          await gone.promise
          throw signal.reason
        }
      }
    ])
    const outgoing = request({ socketPath: path, path: '/waits' })
    outgoing.on('error', () => undefined).end()
    await asked.promise
    outgoing.destroy()
    assert.equal((await gone.promise) instanceof HostletError, true)
  })

  it('holds so many connections and no more, and does not end by itself what was asked before', async () => {
    const path = newPath()
    await using server = await LocalServer.open(path, options)
    server.mount([echo])
    const held = await Promise.all(
      Array.from({ length: connectionsMax }, async () => {
        const socket = connect(path)
        await once(socket, 'connect')
        return socket
      })
    )
    const more = connect(path)
    await once(more, 'close')
    for (const socket of held) assert.equal(socket.destroyed, false)
    const [first] = held
    first?.destroy()
    await untilAnswered(path)
    for (const socket of held) socket.destroy()
  })

  it('is there again for others after a while, when those who hold it do not read their answers', async () => {
    const path = newPath()
    const clock = new FakeClock()
    await using server = await LocalServer.open(path, { log, clock })
    const large = { type: 'text/plain', body: 'x'.repeat(4_000_000) }
    const asked = Array.from({ length: connectionsMax }, () => Promise.withResolvers<void>())
    let count = 0
    const handle = async () => {
      asked[count++]?.resolve()
      return large
    }
    server.mount([echo, { path: '/large', handle }])
    const held = asked.map(() => connect(path).pause())
    for (const socket of held) socket.write('GET /large HTTP/1.1\r\nhost: agent\r\n\r\n')
    await Promise.all(asked.map(({ promise }) => promise))
    await once(connect(path), 'close')
    await clock.advance(connectionMsMax)
    const got = await Promise.all(held.map(bytesUntilClosed))
    assert.ok(
      got.every((bytes) => bytes < large.body.length),
      `${got} bytes were read`
    )
    assert.equal(clock.pending, 0)
    await untilAnswered(path)
  })

  it('refuses headers that are longer than a question needs', async () => {
    const path = newPath()
    await using server = await LocalServer.open(path, options)
    server.mount([echo])
    assert.equal((await ask(path, `/echo?say=${'x'.repeat(8_192)}`)).status, 431)
  })

  it('takes the place of one that an agent left when it was killed', async () => {
    const path = newPath()
    await leaveSocket(path)
    assert.ok(existsSync(path))
    await using server = await LocalServer.open(path, options)
    server.mount([echo])
    assert.equal((await ask(path, '/echo')).status, 200)
  })

  it('leaves the socket of another process alone, and says why it is not there', async () => {
    const path = newPath()
    await using first = await LocalServer.open(path, options)
    first.mount([echo])
    {
      await using second = await LocalServer.open(path, options)
      assert.match(second.fault ?? '', /another process listens there/)
    }
    assert.equal((await ask(path, '/echo')).status, 200)
  })

  it('removes nothing that is no socket', async () => {
    const path = newPath()
    writeFileSync(path, 'mine')
    await using server = await LocalServer.open(path, options)
    assert.match(server.fault ?? '', /no socket; move it away/)
    assert.ok(statSync(path).isFile())
  })

  it('does not throw where its directory cannot be made', async () => {
    const file = join(directory, 'file')
    writeFileSync(file, '')
    await using server = await LocalServer.open(join(file, 'below/agent.sock'), options)
    assert.match(server.fault ?? '', /could not be made/)
  })
})

interface Told {
  readonly status: number | undefined
  readonly type: string | undefined
  readonly body: string
}

function ask(socketPath: string, path: string, method = 'GET'): Promise<Told> {
  return new Promise((resolve, reject) => {
    const outgoing = request({ socketPath, path, method, agent: false }, (answer) => {
      let body = ''
      answer.setEncoding('utf8').on('data', (text: string) => (body += text))
      answer.on('end', () =>
        resolve({ status: answer.statusCode, type: answer.headers['content-type'], body })
      )
    })
    outgoing.on('error', reject).end()
  })
}

/** How much was sent before the server cut it. */
async function bytesUntilClosed(socket: Socket): Promise<number> {
  let bytes = 0
  socket.on('data', (data: Buffer) => (bytes += data.length)).on('error', () => undefined)
  await once(socket.resume(), 'close')
  return bytes
}

/** The server notices a connection that ended in a turn of its own. */
async function untilAnswered(path: string): Promise<void> {
  for (;;) {
    const told = await ask(path, '/echo').catch(() => undefined)
    if (told?.status === 200) return
  }
}

/** As a process that is killed does: the name stays, and nobody listens. */
async function leaveSocket(path: string): Promise<void> {
  const kept = `${path}.kept`
  const server = createServer().listen(path)
  await once(server, 'listening')
  const { linkSync, renameSync } = await import('node:fs')
  linkSync(path, kept)
  await new Promise((resolve) => server.close(resolve))
  renameSync(kept, path)
}
