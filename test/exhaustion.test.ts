// Floods from either side against the other, over real sockets: what the attacked process holds in memory stays within a bound.

import assert from 'node:assert/strict'
import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:https'
import { type AddressInfo, connect, type Socket } from 'node:net'
import { join } from 'node:path'
import { after, before, describe, it, type TestContext } from 'node:test'
import { WebSocket, WebSocketServer } from 'ws'
import { saveIdentity } from '../src/agent/identity/identity.ts'
import type { CreatedToken } from '../src/protocol/api.ts'
import { messageBytesMax } from '../src/protocol/messages.ts'
import { badMessagesMax } from '../src/scheduler/hub/connection.ts'
import { unheardMax } from '../src/scheduler/hub/hub.ts'
import { ApiClient } from './scheduler/support/api-client.ts'
import { enrollAgent, type TestAgent } from './scheduler/support/test-agent.ts'
import { claimsOf, createSigner } from './support/signed-commands.ts'
import { TestAuthority, trustDomain } from './support/test-authority.ts'

const mebibyte = 1024 ** 2
/** How much more than at rest either may come to hold: the agent's unit has MemoryMax=768M, and the agent rests far below half of it. */
const growthBytesMax = 256 * mebibyte
const giant = 'x'.repeat(messageBytesMax)

/** Peak and present resident memory, as the kernel counts them. */
function memoryOf({ pid }: ChildProcess): { peak: number; now: number } {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8')
  const kibibytes = (name: string) => Number(new RegExp(`${name}:\\s+(\\d+)`).exec(status)?.[1])
  return { peak: kibibytes('VmHWM') * 1024, now: kibibytes('VmRSS') * 1024 }
}

async function start(script: string, argument: string): Promise<{ child: ChildProcess; told: unknown }> {
  const child = fork(join(import.meta.dirname, 'support', script), [argument], { stdio: 'inherit' })
  const [told] = await once(child, 'message')
  return { child, told }
}

async function stop(child: ChildProcess): Promise<void> {
  const ended = once(child, 'exit')
  child.send('stop')
  assert.deepEqual(await ended, [0, null])
}

/** Holds the growth to the bound, and says how much it was. */
function assertBounded(test: TestContext, child: ChildProcess, before: number): void {
  const growth = memoryOf(child).peak - before
  test.diagnostic(`grew by ${Math.round(growth / mebibyte)} MiB`)
  assert.ok(growth < growthBytesMax, `grew by ${growth} bytes`)
}

/** The other side may hang up in the middle of a flood: that is what it should do. */
function sent(socket: WebSocket, text: string): Promise<unknown> {
  return new Promise((resolve) => socket.send(text, resolve))
}

describe('the scheduler', { timeout: 120_000 }, () => {
  const directory = mkdtempSync('/dev/shm/hostlet-flood-')
  let child: ChildProcess
  let api: ApiClient
  let url: string
  let restingBytes: number
  const hosts: TestAgent[] = []
  const sockets: Socket[] = []

  before(async () => {
    const { child: started, told } = await start('bounded-scheduler.ts', directory)
    const { url: address, caFile, key } = told as { url: string; caFile: string; key: string }
    child = started
    url = address
    api = new ApiClient({ url, caFile, key })
    for (const hostname of ['flood-1', 'flood-2', 'flood-3']) {
      const { token } = await api.post<CreatedToken>('/v1/tokens')
      hosts.push(
        await enrollAgent({ api: new ApiClient({ url, caFile }), token, hostname, address: () => url })
      )
    }
    restingBytes = memoryOf(child).now
  })
  after(async () => {
    for (const socket of sockets) socket.destroy()
    for (const host of hosts) host.hangUp()
    await stop(child)
    rmSync(directory, { recursive: true, force: true })
  })

  const first = () => hosts[0] as TestAgent
  const answers = async () => assert.equal((await api.ask({ path: '/healthz' })).status, 200)

  it('under connections that never finish their handshake', async (test) => {
    for (let count = 0; count < 1_500; count++) {
      const socket = connect({ host: '127.0.0.1', port: Number(new URL(url).port) })
      socket.on('error', () => undefined)
      sockets.push(socket)
      await once(socket, 'connect')
      // The beginning of a ClientHello, for every other one.
      if (count % 2 === 0) socket.write(Buffer.from('16030102000100', 'hex'))
    }
    await answers()
    assertBounded(test, child, restingBytes)
  })

  it('under one host that opens sockets and says nothing on them', async (test) => {
    const opened: WebSocket[] = []
    for (let count = 0; count < 40; count++) {
      await first().dial()
      opened.push(first().socket)
    }
    // The cut of the last surplus one has arrived once the scheduler has answered something later.
    const open = () => opened.filter(({ readyState }) => readyState === WebSocket.OPEN).length
    while (open() > unheardMax) await answers()
    assert.equal(open(), unheardMax)
    for (const socket of opened) socket.terminate()
    assertBounded(test, child, restingBytes)
  })

  it('under frames of the greatest length, and longer ones', async (test) => {
    await Promise.all(
      hosts.map(async (host) => {
        await host.connect()
        for (let count = 0; count < 4; count++) await sent(host.socket, giant)
        await sent(host.socket, `${giant}x`)
        if (host.socket.readyState !== WebSocket.CLOSED) await once(host.socket, 'close')
      })
    )
    await answers()
    assertBounded(test, child, restingBytes)
  })

  it('under a burst of binary messages that are no frames of a console', async (test) => {
    await first().connect()
    const { socket } = first()
    const closed = first().closed()
    const junk = Buffer.alloc(19, 9)
    for (let count = 0; count < 60_000; count++) socket.send(junk)
    assert.equal((await closed).code, 4000)
    assert.equal(first().unread('problem').length, badMessagesMax)
    await answers()
    assertBounded(test, child, restingBytes)
  })

  it('under a flood of small frames and pings by a host that reads nothing', async (test) => {
    await first().connect()
    const { socket } = first()
    socket.pause()
    const inventory = JSON.stringify({ type: 'disk-keys-request', request: crypto.randomUUID(), ids: [] })
    for (let count = 0; count < 60_000; count++) {
      socket.ping(Buffer.alloc(125))
      if (count % 10 === 0) socket.send(inventory)
      if (count % 1_000 === 0) await sent(socket, '{"type":"nothing"}')
    }
    await answers()
    assertBounded(test, child, restingBytes)
    socket.terminate()
  })
})

describe('the agent', { timeout: 120_000 }, () => {
  const directory = mkdtempSync('/dev/shm/hostlet-flood-')
  after(() => rmSync(directory, { recursive: true, force: true }))

  it('under a scheduler that floods it, reads nothing and acknowledges nothing', async (test) => {
    const authority = await TestAuthority.create()
    const signer = await createSigner()
    const server = await authority.issue({
      usage: 'server',
      uris: [`spiffe://${trustDomain}/scheduler/main`]
    })
    const https = createServer({ ...server, ca: authority.certificate, requestCert: true })
    await new Promise<void>((resolve) => https.listen(0, '127.0.0.1', resolve))
    const sockets = new WebSocketServer({ server: https, perMessageDeflate: false })
    const { port } = https.address() as AddressInfo
    const state = join(directory, 'state')
    saveIdentity(state, await authority.identity({ commandKeys: [signer.publicKey] }))
    const config = join(directory, 'agent.yaml')
    writeFileSync(
      config,
      JSON.stringify({
        stateDirectory: state,
        runtimeDirectory: join(directory, 'run'),
        schedulerUrls: [`wss://127.0.0.1:${port}/v1/agent`]
      })
    )
    const connected = once(sockets, 'connection')
    const { child } = await start('bounded-agent.ts', config)
    const [socket] = (await connected) as [WebSocket]
    await once(socket, 'message')
    const intervals = { heartbeatIntervalMs: 5_000, metricsIntervalMs: 60_000 }
    const welcome = { type: 'welcome', protocol: 1, schedulerVersion: 'x', sentAt: Date.now(), ...intervals }
    await sent(socket, JSON.stringify(welcome))
    await once(socket, 'message')
    const restingBytes = memoryOf(child).now

    socket.pause()
    const settings = JSON.stringify({ type: 'settings', ...intervals })
    const forged = JSON.stringify({ type: 'command', jws: `${'a'.repeat(100_000)}.b.c` })
    const { subject: _none, ...look } = claimsOf(Date.now(), { verb: 'vm.list', arguments: {} })
    for (let round = 0; round < 400; round++) {
      const { id: _id, ...rest } = look
      const jws = await signer.sign({ ...rest, id: crypto.randomUUID() })
      socket.send(JSON.stringify({ type: 'command', jws }))
      socket.send(forged)
      for (let count = 0; count < 50; count++) socket.ping(Buffer.alloc(125))
      // Between two that can be read, so that bad messages never come in a row.
      socket.send('{"type":"nothing"}')
      if (round % 50 === 0) socket.send(giant)
      await sent(socket, settings)
    }
    await sent(socket, `${giant}x`)
    socket.resume()
    // It hangs up for the last one, or has done so before; then it comes again, as it would to a scheduler that is well.
    if (socket.readyState !== WebSocket.CLOSED) await once(socket, 'close')
    await once(sockets, 'connection')
    assertBounded(test, child, restingBytes)
    await stop(child)
    for (const open of sockets.clients) open.terminate()
    https.closeAllConnections()
    await new Promise((resolve) => https.close(resolve))
  })
})
