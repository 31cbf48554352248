// One agent's connection, over a real socket: hello, heartbeats, replacement, and what bad messages do.

import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { afterEach, beforeEach, describe, it } from 'node:test'
import type {
  EventList,
  HostDetail,
  HostMetrics,
  VmList,
  VmMetrics,
  VmReply
} from '../../../src/protocol/api.ts'
import { encodeConsoleFrame } from '../../../src/protocol/console.ts'
import { messageBytesMax } from '../../../src/protocol/messages.ts'
import { badMessagesMax, helloTimeoutMs } from '../../../src/scheduler/hub/connection.ts'
import { inboxMessagesMax } from '../../../src/scheduler/hub/inbox.ts'
import { hostFacts, metricsSample, uuid1, uuid2, vmSample, vmSummary } from '../support/samples.ts'
import type { TestAgent } from '../support/test-agent.ts'
import { TestScheduler } from '../support/test-scheduler.ts'

describe("an agent's connection", { timeout: 120_000 }, () => {
  let scheduler: TestScheduler
  let agent: TestAgent

  beforeEach(async () => {
    scheduler = await TestScheduler.start()
    agent = await scheduler.enroll()
  })
  afterEach(() => scheduler[Symbol.asyncDispose]())

  async function host() {
    return (await scheduler.api.get<HostDetail>(`/v1/hosts/${agent.id}`)).host
  }

  /** Waits for what the scheduler learns from a closed socket, which no message announces. */
  async function hostInState(state: string) {
    for (;;) {
      const seen = await host()
      if (seen.state === state) return seen
      await new Promise((resolve) => setImmediate(resolve))
    }
  }

  describe('hello', () => {
    it('is answered with the version and the intervals', async () => {
      const welcome = await agent.connect()
      assert.equal(welcome.protocol, 1)
      assert.equal(welcome.heartbeatIntervalMs, 10_000)
      assert.equal(welcome.metricsIntervalMs, 10_000)
      assert.equal((await host()).state, 'connected')
    })

    it('of another protocol version is told so', async () => {
      await agent.dial()
      const closed = agent.closed()
      agent.sendText(JSON.stringify({ ...agent.hello(), protocol: 2 }))
      const { error } = await agent.next('problem')
      assert.equal(error.code, 'E_UNSUPPORTED')
      assert.match(error.message, /speaks protocol 2, this scheduler 1/)
      assert.equal((await closed).code, 4001)
    })

    it('of another host than the certificate names is refused', async () => {
      await agent.dial()
      const closed = agent.closed()
      agent.send({ ...agent.hello(), hostId: 'somebody-else' })
      assert.equal((await agent.next('problem')).error.code, 'E_AUTH')
      assert.equal((await closed).code, 4003)
      assert.equal((await host()).state, 'new')
    })

    it('must come first', async () => {
      await agent.dial()
      const closed = agent.closed()
      agent.sendInventory()
      assert.match((await agent.next('problem')).error.message, /first message must be hello/)
      assert.equal((await closed).code, 4001)
    })

    it('does not come through when the host is revoked before it', async () => {
      await agent.dial()
      const closed = agent.closed()
      await scheduler.api.delete(`/v1/hosts/${agent.id}`)
      agent.send(agent.hello())
      assert.equal((await closed).code, 4003)
      assert.equal((await host()).state, 'revoked')
      assert.deepEqual(agent.unread('welcome'), [])
    })

    it('does not come through when another process has revoked the host', async () => {
      await agent.dial()
      const closed = agent.closed()
      const other = new DatabaseSync(join(scheduler.directory, 'scheduler.db'))
      other.prepare('UPDATE hosts SET revoked_at = 1 WHERE id = ?').run(agent.id)
      other.close()
      agent.send(agent.hello())
      assert.equal((await closed).code, 4003)
      assert.deepEqual(agent.unread('welcome'), [])
    })

    it('must come in time', async () => {
      await agent.dial()
      const closed = agent.closed()
      await scheduler.clock.advance(helloTimeoutMs)
      assert.equal((await closed).code, 4001)
    })

    it('is said once', async () => {
      await agent.connect()
      agent.send(agent.hello())
      assert.equal((await agent.next('problem')).error.code, 'E_BAD_REQUEST')
      await agent.sync()
    })
  })

  describe('heartbeats', () => {
    it('keep the host connected and tell its condition', async () => {
      await agent.connect()
      for (let round = 0; round < 5; round++) {
        await scheduler.clock.advance(25_000)
        agent.send({
          type: 'heartbeat',
          sentAt: 1,
          operationsRunning: 2,
          operationsWaiting: 1,
          hypervisor: 'away',
          conditions: [{ id: 'libvirt-away', severity: 'critical', message: 'libvirtd is gone', since: 1 }]
        })
        await agent.sync()
      }
      const seen = await host()
      assert.equal(seen.state, 'connected')
      assert.equal(seen.hypervisor, 'away')
      assert.equal(seen.operationsRunning, 2)
      assert.equal(seen.conditions[0]?.id, 'libvirt-away')
      assert.equal(seen.lastSeenAt, scheduler.clock.now())
    })

    it('that are missed three times make the host away, with the reason', async () => {
      await agent.connect()
      const closed = agent.closed()
      await scheduler.clock.advance(29_999)
      assert.equal((await host()).state, 'connected')
      await scheduler.clock.advance(1)
      await closed
      const seen = await hostInState('away')
      assert.match(seen.reason, /missed 3 heartbeats; last seen/)
    })
  })

  it('that ends makes the host away', async () => {
    await agent.connect()
    await agent.disconnect()
    assert.match((await hostInState('away')).reason, /the connection ended \(1000\)/)
  })

  it('gives way to a newer one of the same host, which stays connected', async () => {
    await agent.connect()
    const older = agent.socket
    const closed = new Promise<number>((resolve) => older.once('close', resolve))
    await agent.connect()
    assert.equal(await closed, 4008)
    await agent.sync()
    assert.equal((await host()).state, 'connected')
  })

  describe('bad messages', () => {
    const bad: readonly [string, string | Buffer, RegExp][] = [
      ['text that is not JSON', '{"type":', /not JSON/],
      ['binary', Buffer.from('{"type":"heartbeat"}'), /console frame: version 123/],
      ['a list', '[]', /must be object/],
      ['no type', '{}', /required property 'type'/],
      ['an unknown type', '{"type":"reboot-everything"}', /unknown or missing "type"/],
      [
        'an unknown key',
        JSON.stringify({ type: 'ack', command: uuid1, repeated: false, extra: 1 }),
        /unknown key "extra"/
      ],
      [
        'a name with a path in it',
        JSON.stringify({
          ...{ type: 'event', at: 1, uuid: uuid1, kind: 'ready', state: 'running', detail: '' },
          vm: '../etc'
        }),
        /vm: must be a name/
      ],
      [
        'a bad id',
        JSON.stringify({ type: 'ack', command: "1'; DROP TABLE hosts", repeated: false }),
        /command: must be a UUID/
      ],
      [
        "the other side's type",
        JSON.stringify({ type: 'result-ack', command: uuid1 }),
        /unknown or missing "type"/
      ]
    ]
    for (const [name, message, expected] of bad)
      it(`are answered, and the connection goes on: ${name}`, async () => {
        await agent.connect()
        agent.socket.send(message)
        const { error } = await agent.next('problem')
        assert.equal(error.code, 'E_BAD_REQUEST')
        assert.match(error.message, expected)
        await agent.sync()
      })

    it('close the connection when too many come in a row', async () => {
      await agent.connect()
      const closed = agent.closed()
      for (let count = 0; count < badMessagesMax - 1; count++) agent.sendText('nonsense')
      await agent.sync()
      for (let count = 0; count < badMessagesMax; count++) agent.sendText('nonsense')
      assert.equal((await closed).code, 4000)
      assert.match((await hostInState('away')).reason, /too many bad messages/)
    })

    const closeOfUnknown = encodeConsoleFrame({ type: 'close', session: uuid1, why: 'off', message: '' })
    for (const [name, between] of [
      ['in a burst', undefined],
      ['however many good ones are between them', closeOfUnknown]
    ] as const)
      it(`that should be frames of consoles close the connection at the fifth, ${name}`, async () => {
        await agent.connect()
        const closed = agent.closed()
        for (let count = 0; count < 2_000; count++) {
          agent.socket.send(Buffer.alloc(19, 9))
          if (between !== undefined) agent.socket.send(between)
        }
        assert.equal((await closed).code, 4000)
        assert.equal(agent.unread('problem').length, badMessagesMax)
        const refusals = scheduler.log.entries.filter(({ message }) => message === 'message refused')
        assert.equal(refusals.length, 1)
        assert.match((await hostInState('away')).reason, /too many bad messages/)
      })

    it('that should be frames of consoles are forgiven by a message that is good', async () => {
      await agent.connect()
      for (let count = 0; count < badMessagesMax * 2; count++) {
        agent.socket.send(Buffer.alloc(19, 9))
        await agent.sync()
      }
    })

    it('longer than the bound close the connection with 1009', async () => {
      await agent.connect()
      const closed = agent.closed()
      agent.sendText('x'.repeat(messageBytesMax + 1))
      assert.equal((await closed).code, 1009)
      assert.match((await hostInState('away')).reason, /WS_ERR_UNSUPPORTED_MESSAGE_LENGTH/)
      await agent.connect()
      await agent.sync()
    })
  })

  it('handles a flood in order, all of it', async () => {
    await agent.connect()
    const samples = inboxMessagesMax * 5
    for (let at = 1; at <= samples; at++) agent.send({ type: 'metrics', samples: [metricsSample(at)] })
    await agent.sync()
    const { points } = await scheduler.api.get<HostMetrics>(`/v1/hosts/${agent.id}/metrics?limit=1000`)
    assert.deepEqual(
      points.map(({ at }) => at),
      Array.from({ length: samples }, (_, index) => index + 1)
    )
  })

  describe('inventory', () => {
    it('takes in VMs that the scheduler does not know, and drops them when they are gone', async () => {
      await agent.connect()
      agent.sendInventory({
        vms: [vmSummary({ generation: 7 })],
        foreign: [{ name: 'windows <95> & "co"', uuid: uuid2, state: 'running' }]
      })
      await agent.sync()
      const { vm } = await scheduler.api.get<VmReply>('/v1/vms/web-1')
      assert.equal(vm.host, agent.id)
      assert.equal(vm.state, 'running')
      assert.equal(vm.address, '10.83.0.10')
      assert.equal(vm.generation, 7)
      assert.equal(vm.fresh, true)
      const detail = await scheduler.api.get<HostDetail>(`/v1/hosts/${agent.id}`)
      assert.deepEqual(detail.foreign, [{ name: 'windows <95> & "co"', uuid: uuid2, state: 'running' }])
      assert.equal(detail.host.facts?.cpus, 8)

      agent.sendInventory()
      await agent.sync()
      assert.deepEqual((await scheduler.api.get<VmList>('/v1/vms')).vms, [])
    })

    it('of a host that went away is kept as the last known', async () => {
      await agent.connect()
      agent.sendInventory({ vms: [vmSummary()] })
      await agent.sync()
      await agent.disconnect()
      await hostInState('away')
      const { vm } = await scheduler.api.get<VmReply>('/v1/vms/web-1')
      assert.equal(vm.state, 'running')
      assert.equal(vm.fresh, false)
      assert.match(vm.reason, /last known, host kvm-1 is away/)
    })

    it('does not take a VM that another host has', async () => {
      const other = await scheduler.enroll('kvm-2')
      await agent.connect()
      await other.connect()
      agent.sendInventory({ vms: [vmSummary()] })
      await agent.sync()
      other.sendInventory({ vms: [vmSummary({ state: 'crashed' }), vmSummary({ name: 'web-2' })] })
      await other.sync()
      const { vms } = await scheduler.api.get<VmList>('/v1/vms')
      assert.deepEqual(
        vms.map(({ name, host: on, state }) => ({ name, on, state })),
        [{ name: 'web-1', on: 'kvm-1', state: 'running' }]
      )
    })

    it('moves the VMs of a revoked host to the one that has them now', async () => {
      await agent.connect()
      agent.sendInventory({ vms: [vmSummary()] })
      await agent.sync()
      await scheduler.api.delete(`/v1/hosts/${agent.id}`)
      const successor = await scheduler.enroll('kvm-1')
      await successor.connect()
      successor.sendInventory({ vms: [vmSummary()] })
      await successor.sync()
      const { vm } = await scheduler.api.get<VmReply>('/v1/vms/web-1')
      assert.equal(vm.host, successor.id)
    })

    it('of another host is refused', async () => {
      await agent.connect()
      agent.sendInventory({ facts: hostFacts('kvm-2'), vms: [vmSummary()] })
      assert.equal((await agent.next('problem')).error.code, 'E_AUTH')
      assert.deepEqual((await scheduler.api.get<VmList>('/v1/vms')).vms, [])
    })
  })

  it('stores events in the order in which they come', async () => {
    await agent.connect()
    for (const kind of ['started', 'ready', 'crashed'] as const)
      agent.send({ type: 'event', at: 5, vm: 'web-1', uuid: uuid1, kind, state: 'running', detail: 'x' })
    agent.send({
      type: 'event',
      at: 6,
      vm: 'web-2',
      uuid: uuid2,
      kind: 'stopped',
      state: 'stopped',
      detail: ''
    })
    await agent.sync()
    const all = await scheduler.api.get<EventList>('/v1/events')
    assert.deepEqual(
      all.events.map(({ kind }) => kind),
      ['started', 'ready', 'crashed', 'stopped']
    )
    assert.equal(all.events[0]?.receivedAt, scheduler.clock.now())
    const later = await scheduler.api.get<EventList>('/v1/events?after=1&vm=web-1&limit=1')
    assert.deepEqual(
      later.events.map(({ kind }) => kind),
      ['ready']
    )
    assert.equal(later.more, true)
    assert.equal(later.last, 2)
    const newest = await scheduler.api.get<EventList>('/v1/events?vm=web-1&newest=true&limit=2')
    assert.deepEqual(
      newest.events.map(({ kind }) => kind),
      ['ready', 'crashed']
    )
    assert.deepEqual([newest.more, newest.last], [true, 3])
    const none = await scheduler.api.get<EventList>(`/v1/events?after=${all.last}`)
    assert.deepEqual(none, { events: [], last: all.last, more: false })
  })

  it('stores metrics with the times at which they were taken, and repeated ones once', async () => {
    await agent.connect()
    agent.sendInventory({ vms: [vmSummary()] })
    const late = metricsSample(1_000, [vmSample({ cpuCoresUsed: 0.25 })])
    const newer = metricsSample(2_000, [vmSample({ cpuCoresUsed: 0.75 })])
    agent.send({ type: 'metrics', samples: [newer] })
    agent.send({ type: 'metrics', samples: [late, newer] })
    await agent.sync()
    const { points } = await scheduler.api.get<VmMetrics>('/v1/vms/web-1/metrics')
    assert.deepEqual(
      points.map(({ at, sample }) => [at, sample.cpuCoresUsed]),
      [
        [1_000, 0.25],
        [2_000, 0.75]
      ]
    )
    const since = await scheduler.api.get<VmMetrics>('/v1/vms/web-1/metrics?sinceMs=1001')
    assert.equal(since.points.length, 1)
    const { hosts, vms } = await scheduler.api.get<{
      hosts: { at: number }[]
      vms: { sample: { cpuCoresUsed: number } }[]
    }>('/v1/metrics/latest')
    assert.equal(hosts[0]?.at, 2_000)
    assert.equal(vms[0]?.sample.cpuCoresUsed, 0.75)
  })

  it("does not let one host write another's VM figures", async () => {
    const other = await scheduler.enroll('kvm-2')
    await agent.connect()
    await other.connect()
    agent.sendInventory({ vms: [vmSummary()] })
    await agent.sync()
    other.send({ type: 'metrics', samples: [metricsSample(9_000, [vmSample({ cpuCoresUsed: 99 })])] })
    await other.sync()
    const { points } = await scheduler.api.get<VmMetrics>('/v1/vms/web-1/metrics')
    assert.deepEqual(points, [])
  })

  it('closes with 1001 when the scheduler stops, and the host is away after the next start', async () => {
    await agent.connect()
    const closed = agent.closed()
    await scheduler.stop()
    assert.equal((await closed).code, 1001)
    await scheduler.startAgain()
    assert.match((await host()).reason, /the scheduler is stopping/)
    agent.instance = randomUUID()
    await agent.connect()
    assert.equal((await host()).state, 'connected')
  })
})
