// A console in a browser that somebody has left: it does not keep the browser's session, but typing does.

import assert from 'node:assert/strict'
import { once } from 'node:events'
import { describe, it } from 'node:test'
import { type ConsoleReply, requestHeader, type VmList } from '../../../src/protocol/api.ts'
import { checkIntervalMs } from '../../../src/scheduler/console/socket.ts'
import { Operator } from '../support/operator.ts'
import { uuid1, vmSummary } from '../support/samples.ts'
import type { TestAgent } from '../support/test-agent.ts'
import { TestScheduler } from '../support/test-scheduler.ts'

const halfHourMs = 1_800_000

async function connectedAgent(scheduler: TestScheduler): Promise<TestAgent> {
  const agent = await scheduler.enroll('kvm-1')
  await agent.connect()
  agent.sendInventory({ vms: [vmSummary({ name: 'web-1', uuid: uuid1 })] })
  while ((await scheduler.api.get<VmList>('/v1/vms')).vms.length === 0) await agent.sync()
  return agent
}

/** A browser that is signed in and attached; its headers are those of its page. */
async function attachedBrowser(scheduler: TestScheduler, agent: TestAgent) {
  const api = scheduler.apiWith(undefined)
  const key = scheduler.adminKey
  const signedIn = await api.ask({ method: 'POST', path: '/v1/session', json: { key } })
  const [cookie = ''] = String(signedIn.headers['set-cookie']).split(';')
  const headers = { cookie, [requestHeader]: '1' }
  const granted = await api.post<ConsoleReply>('/v1/vms/web-1/console', {}, { headers })
  const { claims } = await agent.nextCommand()
  const { vm, session, mode } = claims.arguments
  agent.acknowledge(claims.id)
  agent.finish(claims.id, { vm, session, mode, idleMs: 60_000, longestMs: 600_000, attachMs: 30_000 })
  await agent.sync()
  const { url } = scheduler.running
  const operator = await Operator.attach(granted, {
    ...{ url, ca: api.ca },
    headers: { cookie, origin: new URL(url).origin }
  })
  await operator.next('attached')
  const ownSession = () => api.ask({ path: '/v1/session', headers })
  return { operator, ownSession, [Symbol.dispose]: () => operator.socket.terminate() }
}

/** The scheduler looks at the console, and has signs of life of its two ends. */
async function looked(scheduler: TestScheduler, agent: TestAgent, { socket }: Operator): Promise<void> {
  const pinged = once(socket, 'ping')
  await scheduler.clock.advance(checkIntervalMs)
  await pinged
  await agent.sync()
}

describe('the session of a browser with a console', { timeout: 20_000 }, () => {
  it('ends when nobody types, and the console with it', async () => {
    await using scheduler = await TestScheduler.start()
    const agent = await connectedAgent(scheduler)
    using browser = await attachedBrowser(scheduler, agent)
    const { operator, ownSession } = browser
    scheduler.clock.jump(halfHourMs)
    await looked(scheduler, agent, operator)
    scheduler.clock.jump(halfHourMs)
    await scheduler.clock.advance(checkIntervalMs)
    const { why, message } = await operator.next('closed')
    assert.equal(why, 'revoked', message)
    assert.equal((await ownSession()).status, 401)
  })

  it('is kept by typing', async () => {
    await using scheduler = await TestScheduler.start()
    const agent = await connectedAgent(scheduler)
    using browser = await attachedBrowser(scheduler, agent)
    const { operator, ownSession } = browser
    scheduler.clock.jump(halfHourMs)
    operator.type('ls\r')
    await agent.nextFrame('data')
    await looked(scheduler, agent, operator)
    scheduler.clock.jump(halfHourMs)
    await looked(scheduler, agent, operator)
    assert.equal((await ownSession()).status, 200)
  })
})
