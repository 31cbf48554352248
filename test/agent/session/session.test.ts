// The session over real TLS on this machine: welcome, messages both ways, refusals that say why, and coming back.

import assert from 'node:assert/strict'
import { before, describe, it } from 'node:test'
import { checkIdentity, tlsSettings } from '../../../src/agent/identity/certificates.ts'
import type { Identity } from '../../../src/agent/identity/identity.ts'
import { Outbox } from '../../../src/agent/session/outbox.ts'
import { Session } from '../../../src/agent/session/session.ts'
import { openSocket } from '../../../src/agent/session/socket.ts'
import type { LogFields, Logger } from '../../../src/lib/log.ts'
import type { CommandResult } from '../../../src/protocol/command.ts'
import { FakeClock } from '../../support/fake-clock.ts'
import { type Pair, TestAuthority, trustDomain } from '../../support/test-authority.ts'
import { TestScheduler, type TestSchedulerOptions } from '../../support/test-scheduler.ts'

let authority: TestAuthority
let server: Pair
let identity: Identity

before(async () => {
  authority = await TestAuthority.create()
  server = await authority.issue({ usage: 'server', uris: [`spiffe://${trustDomain}/scheduler/main`] })
  identity = await authority.identity()
})

/** Lines of the log, and a promise for the next one that fits. */
class Lines implements Logger {
  readonly lines: { message: string; fields: LogFields }[] = []
  #waiting = new Set<() => void>()
  debug = () => undefined
  info = (fields: LogFields, message: string) => this.#add(fields, message)
  warn = this.info
  error = this.info
  child = () => this

  async next(message: string): Promise<LogFields> {
    for (;;) {
      const found = this.lines.find((line) => line.message === message)
      if (found !== undefined) return found.fields
      await new Promise<void>((resolve) => this.#waiting.add(resolve))
    }
  }

  #add(fields: LogFields, message: string): void {
    this.lines.push({ message, fields })
    for (const resolve of this.#waiting) resolve()
    this.#waiting.clear()
  }
}

class Rig implements AsyncDisposable {
  readonly clock = new FakeClock(Date.now())
  readonly log = new Lines()
  readonly results: CommandResult[] = []
  readonly commands: string[] = []
  readonly acknowledged: string[] = []
  readonly backups: string[] = []
  readonly intervals: unknown[] = []
  readonly outbox = new Outbox({ results: () => this.results, metrics: { take: () => [] } })
  readonly session: Session
  readonly scheduler: TestScheduler

  constructor(scheduler: TestScheduler, urls: readonly string[], own: Identity) {
    this.scheduler = scheduler
    this.session = new Session({
      urls,
      clock: this.clock,
      log: this.log,
      random: () => 0.5,
      outbox: this.outbox,
      connect: (url, handlers) => {
        checkIdentity(own, this.clock.now())
        return openSocket(url, tlsSettings(own), handlers)
      },
      hello: () => ({
        type: 'hello',
        protocol: 1,
        agentVersion: 'test',
        hostId: own.hostId,
        instance: '0b54e6f2-6b53-4a3e-9d1c-0123456789ab',
        sentAt: 1,
        verbs: ['vm.list']
      }),
      heartbeat: () => ({
        type: 'heartbeat',
        sentAt: 1,
        operationsRunning: 0,
        operationsWaiting: 0,
        hypervisor: 'connected',
        conditions: []
      }),
      onCommand: (jws) => this.commands.push(jws),
      onResultAcknowledged: (command) => this.acknowledged.push(command),
      onErasuresAcknowledged: () => undefined,
      onBackupsAcknowledged: (operations) => this.backups.push(...operations),
      onTrust: () => undefined,
      onDiskKeys: () => undefined,
      onIntervals: (intervals) => this.intervals.push(intervals),
      onWelcome: () => undefined
    })
    this.session.start()
  }

  static async create(
    options: Partial<TestSchedulerOptions> = {},
    own = identity,
    before: string[] = []
  ): Promise<Rig> {
    const scheduler = await TestScheduler.listen({ authority, server, ...options })
    return new Rig(scheduler, [...before, scheduler.socketUrl], own)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.session.stop()
    await this.scheduler[Symbol.asyncDispose]()
  }
}

describe('the session', () => {
  it('says hello, takes the intervals of the welcome, and beats', async () => {
    await using rig = await Rig.create()
    await rig.scheduler.until(() => rig.scheduler.of('heartbeat').length > 0)
    assert.deepEqual(rig.scheduler.of('hello')[0]?.verbs, ['vm.list'])
    assert.deepEqual(rig.intervals, [{ heartbeatIntervalMs: 5_000, metricsIntervalMs: 7_000 }])
    assert.ok(rig.session.isOnline)
    await rig.clock.advance(5_000)
    await rig.scheduler.until(() => rig.scheduler.of('heartbeat').length > 1)
  })

  it('passes commands and acknowledgements on', async () => {
    await using rig = await Rig.create()
    await rig.scheduler.until(() => rig.scheduler.of('heartbeat').length > 0)
    rig.scheduler.send({ type: 'command', jws: 'a.b.c' })
    rig.scheduler.send({ type: 'result-ack', command: '0b54e6f2-6b53-4a3e-9d1c-0123456789ab' })
    const operations = ['0b54e6f2-6b53-4a3e-9d1c-0123456789ac']
    rig.scheduler.send({ type: 'backups-ack', operations })
    rig.scheduler.send('not JSON')
    await rig.scheduler.until(() => rig.scheduler.of('problem').length > 0)
    assert.deepEqual(rig.commands, ['a.b.c'])
    assert.deepEqual(rig.backups, operations)
    assert.equal(rig.acknowledged.length, 1)
  })

  it('answers what it cannot read, goes on, and hangs up after five in a row', async () => {
    await using rig = await Rig.create()
    await rig.scheduler.until(() => rig.session.isOnline)
    for (const text of ['[]', '{"type":"reboot"}', '{"type":"command"}', '{"type":"welcome"}'])
      rig.scheduler.send(text)
    await rig.scheduler.until(() => rig.scheduler.of('problem').length === 4)
    assert.ok(rig.scheduler.of('problem').every(({ error }) => error.code === 'E_BAD_REQUEST'))
    rig.scheduler.socket.send(Buffer.from('binary'))
    await rig.scheduler.until(() => rig.scheduler.socket.readyState === 3)
    assert.equal(rig.scheduler.of('problem').length, 5)
  })

  it('comes back after the scheduler went away, with the results that are not acknowledged', async () => {
    await using rig = await Rig.create()
    await rig.scheduler.until(() => rig.session.isOnline)
    rig.results.push({
      command: '0b54e6f2-6b53-4a3e-9d1c-0123456789ab',
      outcome: 'done',
      startedAt: 1,
      finishedAt: 2
    })
    rig.scheduler.socket.terminate()
    await rig.log.next('scheduler away, trying again')
    await rig.clock.advance(1_000)
    await rig.scheduler.until(() => rig.scheduler.of('result').length > 0)
    assert.equal(rig.scheduler.connections, 2)
    assert.ok(rig.session.isOnline)
  })

  it('gives up a connection on which nothing comes back', async () => {
    await using rig = await Rig.create()
    await rig.scheduler.until(() => rig.scheduler.of('heartbeat').length > 0)
    // What a half-open connection looks like from here: it takes bytes and answers none.
    rig.scheduler.socket.pause()
    await rig.clock.advance(5_000)
    await rig.clock.advance(15_000)
    const { reason } = await rig.log.next('scheduler away, trying again')
    assert.match(String(reason), /nothing heard for 15000 ms/)
  })

  it('gives up when nobody welcomes it', async () => {
    await using rig = await Rig.create({ welcomes: false })
    await rig.scheduler.until(() => rig.scheduler.of('hello').length > 0)
    await rig.clock.advance(15_000)
    assert.match(
      String((await rig.log.next('scheduler away, trying again')).reason),
      /no welcome within 15000 ms/
    )
  })

  it('goes to the next address when the first is dead', async () => {
    await using rig = await Rig.create({}, identity, ['wss://127.0.0.1:9/v1/agent'])
    await rig.log.next('scheduler away, trying again')
    await rig.clock.advance(1_000)
    await rig.scheduler.until(() => rig.session.isOnline)
  })
})

describe('a connection is refused', () => {
  async function reasonOf(options: Partial<TestSchedulerOptions>, own = identity): Promise<string> {
    await using rig = await Rig.create(options, own)
    const { reason } = await rig.log.next('scheduler away, trying again')
    assert.equal(rig.scheduler.of('hello').length, 0, 'nothing may be sent to whom it does not trust')
    return String(reason)
  }

  it('by a server that another CA signed', async () => {
    const other = await TestAuthority.create()
    const foreign = await other.issue({ usage: 'server', uris: [`spiffe://${trustDomain}/scheduler/main`] })
    assert.match(await reasonOf({ authority: other, server: foreign }), /not signed by this fleet's CA/)
  })

  it('by a server with another name', async () => {
    const named = await authority.issue({ usage: 'server', names: ['elsewhere.example'] })
    assert.match(await reasonOf({ server: named }), /bears neither that name nor a scheduler's/)
  })

  it("by a host's certificate on a server", async () => {
    const host = await authority.issue({
      usage: 'client',
      uris: [`spiffe://${trustDomain}/host/host-2`],
      names: ['127.0.0.1']
    })
    assert.match(await reasonOf({ server: host }), /not a server's/)
  })

  it('by a scheduler of another trust domain, whatever its host name', async () => {
    const other = await authority.issue({ usage: 'server', uris: ['spiffe://other.example/scheduler/main'] })
    assert.match(await reasonOf({ server: other }), /bears neither/)
  })

  it('by a server whose certificate has expired', async () => {
    const expired = await authority.issue({
      usage: 'server',
      uris: [`spiffe://${trustDomain}/scheduler/main`],
      from: Date.now() - 200_000,
      to: Date.now() - 100_000
    })
    assert.match(await reasonOf({ server: expired }), /its certificate has expired/)
  })

  it('by a server without TLS 1.3', async () => {
    assert.match(await reasonOf({ maxVersion: 'TLSv1.2' }), /does not speak TLS 1\.3|alert/)
  })

  it('by its own expired certificate, before it connects', async () => {
    const expired = await authority.identity({ from: Date.now() - 200_000, to: Date.now() - 100_000 })
    assert.match(await reasonOf({}, expired), /this host's certificate expired on/)
  })
})
