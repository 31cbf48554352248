// Health probes: what they say of a service over time, of a machine that is off, of many at once, and on real sockets.

import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { createServer as createHttp } from 'node:http'
import { type AddressInfo, createServer, type Server } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { createServer as createTls } from 'node:tls'
import {
  type HealthChange,
  HealthProbes,
  type ProbeTarget,
  probeDeadlineMs,
  probeIntervalMs,
  probesAtOnceMax,
  refuseSameNames,
  systemProbers
} from '../../../src/agent/guest/health-probes.ts'
import type { VmRecord } from '../../../src/agent/host/hypervisor.ts'
import { reportHealth } from '../../../src/agent/session/health-events.ts'
import { silentLogger } from '../../../src/lib/log.ts'
import type { VmEvent } from '../../../src/protocol/messages.ts'
import type { HealthProbe, VmState } from '../../../src/protocol/vm.ts'
import { FakeClock, settle } from '../../support/fake-clock.ts'

const uuid = '0b54e6f2-6b53-4a3e-9d1c-0123456789ab'
const wait = () => ({ signal: AbortSignal.timeout(30_000) })

describe('the health of a service', () => {
  it('is unknown until it was looked at, healthy with the first answer, unhealthy only after three failures', async () => {
    await using bench = open()
    bench.probes.look([vm()])
    assert.deepEqual(bench.health(), { state: 'unknown', since: bench.startedAt })
    await settle()
    assert.deepEqual(bench.health(), { state: 'healthy', since: bench.startedAt })
    bench.answers = false
    await bench.rounds(2)
    assert.equal(bench.health().state, 'healthy')
    await bench.rounds(1)
    assert.deepEqual(bench.health(), { state: 'unhealthy', since: bench.startedAt + 3 * probeIntervalMs })
    assert.deepEqual(bench.tried[0], { address: '10.90.0.2', port: 5432, path: '/' })
  })

  it('comes back with the second answer in a row, not with one among failures', async () => {
    await using bench = open({ answers: false })
    bench.probes.look([vm()])
    await bench.rounds(3)
    assert.equal(bench.health().state, 'unhealthy')
    for (const answers of [true, false, true]) {
      bench.answers = answers
      await bench.rounds(1)
      assert.equal(bench.health().state, 'unhealthy')
    }
    await bench.rounds(1)
    assert.equal(bench.health().state, 'healthy')
  })

  it('is unknown while the machine is off, and nobody looks', async () => {
    await using bench = open()
    bench.probes.look([vm()])
    await settle()
    for (const kind of ['stopped', 'suspended', 'crashed'] as const) {
      bench.probes.take({ uuid, kind })
      const { length } = bench.tried
      assert.deepEqual(bench.health(), { state: 'unknown', since: bench.clock.now() })
      await bench.rounds(3)
      assert.equal(bench.tried.length, length)
      bench.probes.take({ uuid, kind: 'started' })
      await settle()
      assert.equal(bench.health().state, 'healthy')
    }
    bench.probes.look([vm({ state: 'stopped' })])
    assert.equal(bench.health().state, 'unknown')
  })

  it('of a machine that was off and on again in between is that of the new run, with one round at a time', async () => {
    await using bench = open()
    const held = Promise.withResolvers<boolean>()
    bench.instead = () => held.promise
    bench.probes.look([vm()])
    await settle()
    bench.probes.take({ uuid, kind: 'stopped' })
    bench.instead = undefined
    bench.answers = false
    bench.probes.take({ uuid, kind: 'started' })
    held.resolve(true)
    await settle()
    assert.equal(bench.health().state, 'unknown', 'an answer of the run before counted')
    const { length } = bench.tried
    await bench.rounds(4)
    assert.equal(bench.tried.length - length, 4)
  })

  it('fails when there is no answer in time', async () => {
    await using bench = open()
    bench.instead = () => new Promise(() => undefined)
    bench.probes.look([vm()])
    await settle()
    await bench.clock.advance(3 * (probeDeadlineMs + probeIntervalMs))
    assert.equal(bench.health().state, 'unhealthy')
  })

  it('is told when it changes: an event each, and one look for all', async () => {
    await using bench = open()
    const events: VmEvent[] = []
    let looks = 0
    using _reports = reportHealth({
      probes: bench.probes,
      clock: bench.clock,
      post: (event) => events.push(event),
      lookAnew: () => looks++
    })
    bench.probes.look([vm({ health: [probe('db'), probe('web')] })])
    await bench.rounds(1)
    assert.deepEqual(
      events.map(({ kind, detail }) => [kind, detail]),
      [
        ['changed', 'service db is healthy'],
        ['changed', 'service web is healthy']
      ]
    )
    assert.equal(looks, 1)
    bench.probes.take({ uuid, kind: 'stopped' })
    await bench.rounds(1)
    assert.deepEqual([events.length, looks], [2, 2])
  })

  it('of a VM that is gone or asks for other probes is forgotten', async () => {
    await using bench = open()
    bench.probes.look([vm()])
    await settle()
    bench.probes.look([vm({ health: [probe('other')] })])
    assert.deepEqual(
      bench.probes.of(uuid)?.map(({ name }) => name),
      ['other']
    )
    bench.probes.take({ uuid, kind: 'undefined' })
    assert.equal(bench.probes.of(uuid), undefined)
    bench.probes.look([vm()])
    bench.probes.look([])
    assert.equal(bench.probes.of(uuid), undefined)
    await settle()
    assert.equal(bench.clock.pending, 0, 'a forgotten VM is still looked at')
  })

  it('of a hundred VMs is looked at with a bounded number of probes at a time', async () => {
    await using bench = open()
    let [running, most] = [0, 0]
    bench.instead = async () => {
      most = Math.max(most, ++running)
      await settle()
      running--
      return true
    }
    const uuids = Array.from({ length: 100 }, (_, index) =>
      uuid.replace('0123456789ab', String(1e11 + index))
    )
    bench.probes.look(uuids.map((each) => vm({ uuid: each, health: [probe('a'), probe('b')] })))
    while (uuids.some((each) => bench.probes.of(each)?.some(({ state }) => state !== 'healthy')))
      await settle()
    assert.equal(most, probesAtOnceMax)
    assert.equal(bench.tried.length, 200)
  })

  it('needs names that tell the probes of a VM apart', () => {
    const twice = { name: 'web-1', health: [probe('db'), probe('db')] }
    assert.throws(() => refuseSameNames(twice), { code: 'E_BAD_REQUEST', message: /named db/ })
    refuseSameNames({ name: 'web-1', health: [probe('db'), probe('web')] })
  })
})

describe('probes on real sockets', () => {
  it('tell a port that answers from one that does not', async () => {
    const server = createServer((socket) => socket.end())
    const port = await listen(server)
    assert.equal(await systemProbers.tcp(at(port), wait()), true)
    assert.equal(await systemProbers.tls(at(port), wait()), false, 'no handshake')
    await close(server)
    for (const kind of ['tcp', 'http', 'tls'] as const)
      assert.equal(await systemProbers[kind](at(port), wait()), false, kind)
  })

  it('judge HTTP by its status', async () => {
    const server = createHttp((request, response) => {
      response.statusCode = request.url === '/health' ? 204 : 503
      response.end()
    })
    const port = await listen(server)
    assert.equal(await systemProbers.http(at(port, '/health'), wait()), true)
    assert.equal(await systemProbers.http(at(port), wait()), false)
    await close(server)
  })

  it('complete a handshake of TLS, whoever signed the certificate', async () => {
    const directory = mkdtempSync(join(tmpdir(), 'hostlet-tls-'))
    const file = (name: string) => join(directory, name)
    const subject = [
      '-subj',
      '/CN=somebody-else.example',
      '-days',
      '1',
      '-keyout',
      file('key'),
      '-out',
      file('cert')
    ]
    const kind = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1']
    execFileSync('openssl', ['req', '-x509', '-nodes', ...kind, ...subject], { stdio: 'ignore' })
    const server = createTls({ key: readFileSync(file('key')), cert: readFileSync(file('cert')) })
    server.on('tlsClientError', () => undefined)
    const port = await listen(server)
    assert.equal(await systemProbers.tls(at(port), wait()), true)
    await close(server)
    rmSync(directory, { recursive: true })
  })

  it('end with their signal where nobody ever says a word', async () => {
    const server = createServer(() => undefined)
    const port = await listen(server)
    const over = new AbortController()
    const answer = systemProbers.tls(at(port), over)
    await once(server, 'connection')
    over.abort()
    assert.equal(await answer, false)
    await close(server)
  })
})

interface BenchOptions {
  answers?: boolean
}

function open({ answers = true }: BenchOptions = {}) {
  const clock = new FakeClock()
  const tried: ProbeTarget[] = []
  const prober = async (target: ProbeTarget) => {
    tried.push(target)
    return (await bench.instead?.()) ?? bench.answers
  }
  const probes = new HealthProbes({
    clock,
    log: silentLogger,
    probers: { tcp: prober, http: prober, tls: prober }
  })
  const bench = {
    clock,
    tried,
    probes,
    answers,
    startedAt: clock.now(),
    instead: undefined as (() => Promise<boolean>) | undefined,
    changes: [] as HealthChange[],
    health: () => {
      const { state, since } = probes.of(uuid)?.[0] ?? assert.fail('it is not watched')
      return { state, since }
    },
    rounds: async (count: number) => {
      await settle()
      for (let round = 0; round < count; round++) await clock.advance(probeIntervalMs)
    },
    [Symbol.asyncDispose]: () => probes[Symbol.asyncDispose]()
  }
  return bench
}

function probe(name: string): HealthProbe {
  return { name, kind: 'tcp', port: 5432 }
}

function vm(
  change: { uuid?: string; state?: VmState; health?: HealthProbe[] } = {}
): Pick<VmRecord, 'specification' | 'placement' | 'state'> {
  const { state = 'running', health = [probe('db')], ...rest } = change
  return {
    state,
    specification: {
      name: 'web-1',
      uuid,
      profile: 'starter',
      image: { url: 'https://images.test/a', sha256: 'a'.repeat(64), format: 'raw' },
      cpus: 1,
      memoryBytes: 256 * 1024 ** 2,
      rootDiskBytes: 1024 ** 2,
      health,
      ...rest
    },
    placement: {
      uid: 1_900_000_000,
      macAddress: '52:00:00:00:00:01',
      address: '10.90.0.2',
      network: 'hl-net',
      rootVolume: 'r',
      dataVolume: null
    }
  }
}

function at(port: number, path = '/'): ProbeTarget {
  return { address: '127.0.0.1', port, path }
}

async function listen(server: Server): Promise<number> {
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return (server.address() as AddressInfo).port
}

async function close(server: Server): Promise<void> {
  const closed = once(server, 'close')
  server.close()
  if ('closeAllConnections' in server)
    (server as unknown as { closeAllConnections(): void }).closeAllConnections()
  await Promise.race([closed, settle()])
}
