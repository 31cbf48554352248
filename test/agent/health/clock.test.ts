// How far a host's clock is off, with a whole agent at a real scheduler: noticed at once, and later without a reconnect.

import assert from 'node:assert/strict'
import { it } from 'node:test'
import type { HostDetail } from '../../../src/protocol/api.ts'
import { TestScheduler } from '../../scheduler/support/test-scheduler.ts'
import { FakeClock } from '../../support/fake-clock.ts'
import { HostAgent } from '../../support/host-agent.ts'

it('a clock that is off raises a condition at the welcome, and one that is set later does within two minutes', {
  timeout: 60_000
}, async () => {
  await using scheduler = await TestScheduler.start()
  await using host = await HostAgent.enroll(scheduler)
  const clock = new FakeClock(scheduler.clock.now() + 90_000)
  await host.start(scheduler, { clock })

  const seen = async () => (await scheduler.api.get<HostDetail>('/v1/hosts/kvm-1')).host
  const condition = async () => (await seen()).conditions.find(({ id }) => id === 'clock-skew')
  /** One heartbeat later on both sides. */
  const beat = async () => {
    const before = (await seen()).lastSeenAt
    await scheduler.clock.advance(10_000)
    await clock.advance(10_000)
    while ((await seen()).lastSeenAt === before) await new Promise((resolve) => setImmediate(resolve))
  }
  const until = async (holds: () => Promise<boolean>) => {
    for (let beats = 0; !(await holds()); beats++) {
      assert.ok(beats < 12, 'two minutes of heartbeats have passed')
      await beat()
    }
  }

  await host.untilLogged('connected to scheduler')
  await until(async () => (await condition())?.severity === 'critical')
  assert.match((await condition())?.message ?? '', /90 s ahead of the scheduler's/)
  assert.equal((await seen()).clockSkewMs, 90_000)

  clock.jump(-90_000 - 45_000)
  await until(async () => (await condition())?.severity === 'warning')
  assert.match((await condition())?.message ?? '', /45 s behind the scheduler's/)
  assert.equal((await seen()).clockSkewMs, -45_000)

  clock.jump(45_000)
  await until(async () => (await condition()) === undefined)
  assert.equal(host.logged('connected to scheduler').length, 1)
})
