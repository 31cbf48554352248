// A QEMU that hangs and fills a connection with calls that do not return: the connection is replaced, and events go on.

import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { chmod, mkdtemp, rm } from 'node:fs/promises'
import { describe, it } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import { connect, connectGetHostname, domainEvents, domainMemoryStats } from 'node-libvirt'
import { Connections } from '../../src/agent/host/connections.ts'
import { stuckForMs, watchIntervalMs } from '../../src/agent/host/stuck-connections.ts'
import { type LogFields, silentLogger } from '../../src/lib/log.ts'
import { cannotRun } from '../contract/libvirt-fixture.ts'
import { FakeClock } from '../support/fake-clock.ts'
import { EchoGuest } from './libvirt-connection/echo-guest.ts'

const uri = 'qemu:///system'
const givenUpMs = 200
const quickMs = 10_000
const name = `hl-t-${randomBytes(4).toString('hex')}`

describe('a connection that a hung QEMU holds up', { skip: await cannotRun() }, () => {
  for (const role of ['jobs', 'control'] as const) {
    it(`as ${role} is replaced alone, and closed once its calls have returned`, async () => {
      await using stack = new AsyncDisposableStack()
      const bench = await open(stack)
      const { connections, clock, warnings } = bench
      const guest = await startGuest(stack, role)
      const before = { jobs: connections.get('jobs'), control: connections.get('control') }
      const stuck = before[role]
      const thaw = await guest.freeze()
      try {
        const look = { domain: guest.domain, statisticsMax: 20, flags: 0 }
        const calls = [1, 2, 3].map(() => stuck.call(domainMemoryStats, look, { deadlineMs: givenUpMs }))
        for (const { reason } of (await Promise.allSettled(calls)) as PromiseRejectedResult[])
          assert.equal(reason.code, 'E_TIMEOUT')
        await clock.advance(watchIntervalMs + stuckForMs)
        await until(() => connections.get(role) !== stuck)
        const other = role === 'jobs' ? 'control' : 'jobs'
        assert.equal(connections.get(other), before[other])
        assert.equal(connections.status.state, 'connected')
        const answer = await connections.get(role).call(connectGetHostname, {}, { deadlineMs: quickMs })
        assert.ok(answer.hostname.length > 0)
        assert.deepEqual(
          warnings.map((fields) => fields.role),
          [role]
        )
      } finally {
        thaw()
      }
      await until(() => stuck.load.inFlight === 0)
      await clock.advance(watchIntervalMs)
      assert.equal(await stuck.closed, null)
      assert.equal(connections.status.state, 'connected')
      await stack.disposeAsync()
      assert.equal(bench.registered.length, role === 'control' ? 2 : 1)
    })
  }

  it('as control leaves no gap in the events', async () => {
    await using stack = new AsyncDisposableStack()
    const { connections, clock, events } = await open(stack)
    const guest = await startGuest(stack, 'hung')
    const stuck = connections.get('control')
    const thaw = await guest.freeze()
    try {
      const look = { domain: guest.domain, statisticsMax: 20, flags: 0 }
      const calls = [1, 2, 3].map(() => stuck.call(domainMemoryStats, look, { deadlineMs: givenUpMs }))
      await Promise.allSettled(calls)
      await clock.advance(watchIntervalMs + stuckForMs)
      await until(() => connections.get('control') !== stuck)
      const later = await startGuest(stack, 'later')
      await until(() => events.includes(later.domain.name))
    } finally {
      thaw()
    }
  })
})

async function open(stack: AsyncDisposableStack) {
  const clock = new FakeClock()
  const warnings: LogFields[] = []
  const registered: unknown[] = []
  const events: string[] = []
  const connections: Connections = new Connections({
    uri,
    clock,
    log: { ...silentLogger, warn: (fields) => void warnings.push(fields) },
    onControl: async (control, signal) => {
      registered.push(control)
      await control.on(
        domainEvents.lifecycle,
        ({ domain }) => {
          if (connections.has('control', control)) events.push(domain.name)
        },
        { signal }
      )
    },
    onConnect: async () => undefined
  })
  stack.defer(() => connections.close())
  connections.open()
  await until(() => connections.status.state === 'connected')
  return { connections, clock, warnings, registered, events }
}

async function startGuest(stack: AsyncDisposableStack, suffix: string): Promise<EchoGuest> {
  const directory = await mkdtemp(`/var/tmp/${name}-`)
  await chmod(directory, 0o755)
  stack.defer(() => rm(directory, { recursive: true, force: true }))
  const owner = stack.use(await connect(uri))
  return stack.use(await EchoGuest.start(owner, { name: `${name}-${suffix}`, directory }))
}

async function until(condition: () => boolean): Promise<void> {
  const signal = AbortSignal.timeout(quickMs)
  while (!condition()) await delay(20, undefined, { signal })
}
