// Agents whose identity needs mending, against a real scheduler: after a long time off, on another machine, beside a copy.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { moveIdentity } from '../../../src/agent/identity/enroll.ts'
import { loadIdentity } from '../../../src/agent/identity/identity.ts'
import type { HostDetail } from '../../../src/protocol/api.ts'
import { TestScheduler } from '../../scheduler/support/test-scheduler.ts'
import { FakeClock } from '../../support/fake-clock.ts'
import { HostAgent } from '../../support/host-agent.ts'

const dayMs = 86_400_000
const otherMachine = 'b'.repeat(64)

async function withHostOf(daysAgo: number) {
  const then = Date.now() - daysAgo * dayMs
  const scheduler = await TestScheduler.start(undefined, then)
  const host = await HostAgent.enroll(scheduler, { clock: new FakeClock(then) })
  scheduler.clock.jump(daysAgo * dayMs)
  return {
    scheduler,
    host,
    [Symbol.asyncDispose]: async () => {
      await host[Symbol.asyncDispose]()
      await scheduler[Symbol.asyncDispose]()
    }
  }
}

describe('an agent that was off past the end of its certificate', { timeout: 60_000 }, () => {
  it('says so, renews it before it connects, and is back', async () => {
    await using fleet = await withHostOf(20)
    const before = loadIdentity(fleet.host.stateDirectory)
    await fleet.host.start(fleet.scheduler)
    await fleet.host.untilLogged('connected to scheduler')
    const away = fleet.host.logged('scheduler away, trying again')
    assert.equal(away.length, 1)
    assert.match(
      String(away[0]?.reason),
      /certificate expired on .*renews it before it connects.*hostlet enroll --force/
    )
    assert.equal(fleet.host.logged('certificate renewed').length, 1)
    const after = loadIdentity(fleet.host.stateDirectory)
    assert.notEqual(after.certificate, before.certificate)
    assert.equal(after.machine, before.machine)
    assert.doesNotMatch(fleet.scheduler.log.text(), /agent refused/)
  })

  it('is told what to do when the grace is over, and raises a condition', async () => {
    await using fleet = await withHostOf(40)
    await fleet.host.start(fleet.scheduler)
    const line = await fleet.host.untilLogged('certificate could not be renewed')
    assert.match(JSON.stringify(line), /E_AUTH.*grace of 30 days.*hostlet host token/)
    assert.equal(line.expired, true)
    assert.equal(fleet.host.logged('connected to scheduler').length, 0)
  })
})

describe('a state directory on another machine', { timeout: 60_000 }, () => {
  it('is not used: the agent neither connects nor renews, and says how to go on', async () => {
    await using fleet = await withHostOf(6.9)
    await using copy = fleet.host.copy()
    await copy.start(fleet.scheduler, { machine: otherMachine })
    const line = await copy.untilLogged('scheduler away, trying again')
    assert.match(
      String(line.reason),
      /belongs to another machine.*hostlet enroll --force.*hostlet enroll --moved/
    )
    await fleet.host.start(fleet.scheduler)
    await fleet.host.untilLogged('certificate renewed')
    await fleet.host.untilLogged('connected to scheduler')
    assert.equal(copy.logged('certificate renewed').length, 0)
    assert.deepEqual(
      loadIdentity(copy.stateDirectory).certificate === loadIdentity(fleet.host.stateDirectory).certificate,
      false
    )
  })

  it('is used when somebody says that the host has moved', async () => {
    await using scheduler = await TestScheduler.start()
    await using host = await HostAgent.enroll(scheduler)
    moveIdentity(host.stateDirectory, otherMachine)
    await host.start(scheduler, { machine: otherMachine })
    await host.untilLogged('connected to scheduler')
    await host.stop()
    await using back = host.copy()
    await back.start(scheduler)
    await back.untilLogged('scheduler away, trying again')
    assert.match(back.log, /belongs to another machine/)
  })

  it('that hides which machine it is on is noticed by the scheduler, which then refuses both', async () => {
    await using scheduler = await TestScheduler.start()
    await using host = await HostAgent.enroll(scheduler)
    await using copy = host.copy()
    const clock = new FakeClock(Date.now())
    await host.start(scheduler, { clock })
    await host.untilLogged('connected to scheduler')
    await until(async () => (await seen(scheduler)).clockSkewMs !== undefined)
    await copy.start(scheduler)
    const replaced = await host.untilLogged('scheduler away, trying again')
    assert.match(String(replaced.reason), /another agent connected as this host.*copied/)
    await until(async () => scheduler.log.text().split('host connected').length > 2)
    await until(async () => copy.logged('connected to scheduler').length > 0)
    await until(async () => {
      await clock.advance(60_000)
      return (await seen(scheduler)).conditions.some(({ id }) => id === 'cloned-host')
    })
    await copy.untilLogged('scheduler away, trying again')
    assert.equal((await seen(scheduler)).state, 'away')
  })
})

async function seen(scheduler: TestScheduler) {
  return (await scheduler.api.get<HostDetail>('/v1/hosts/kvm-1')).host
}

/** What no message announces is looked at again and again. */
async function until(condition: () => Promise<boolean>): Promise<void> {
  while (!(await condition())) await new Promise((resolve) => setImmediate(resolve))
}
