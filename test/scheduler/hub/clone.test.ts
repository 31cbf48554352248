// Two machines with one identity, over real sockets: what is taken for a clone, what never is, and how it is settled.

import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { afterEach, beforeEach, describe, it } from 'node:test'
import type { HostDetail } from '../../../src/protocol/api.ts'
import { createKeyPair, createRequest, refusedUpgrade, TestAgent } from '../support/test-agent.ts'
import { TestScheduler } from '../support/test-scheduler.ts'

describe('the identity of a host', { timeout: 60_000 }, () => {
  let scheduler: TestScheduler
  let agent: TestAgent
  let copy: TestAgent

  beforeEach(async () => {
    scheduler = await TestScheduler.start()
    agent = await scheduler.enroll()
    copy = new TestAgent({
      reply: agent.reply,
      keyPem: agent.keyPem,
      address: () => scheduler.running.url
    })
  })
  afterEach(async () => {
    copy.hangUp()
    await scheduler[Symbol.asyncDispose]()
  })

  async function host() {
    return (await scheduler.api.get<HostDetail>(`/v1/hosts/${agent.id}`)).host
  }

  async function live(one: TestAgent): Promise<void> {
    await one.connect()
    one.heartbeat()
    await one.sync()
  }

  /** A, B, A: the first comes back after the second was heard. */
  async function noticed(): Promise<{ agent: number; copy: number }> {
    await live(agent)
    await live(copy)
    await agent.dial()
    const [own, other] = [agent.closed(), copy.closed()]
    agent.send(agent.hello())
    const { error } = await agent.next('problem')
    assert.equal(error.code, 'E_CONFLICT')
    assert.equal(error.details?.reason, 'cloned-host')
    return { agent: (await own).code, copy: (await other).code }
  }

  it('that two agents use is refused to both, and operators see it', async () => {
    assert.deepEqual(await noticed(), { agent: 4003, copy: 4003 })
    const seen = await host()
    assert.equal(seen.state, 'away')
    assert.match(seen.reason, /two machines used its identity.*hostlet host settle kvm-1/)
    const condition = seen.conditions.find(({ id }) => id === 'cloned-host')
    assert.equal(condition?.severity, 'critical')
    assert.match(condition?.message ?? '', /hostlet host settle kvm-1.*hostlet host rm kvm-1/)
    const lines = scheduler.log.entries.filter(({ message }) => message.startsWith('two machines'))
    assert.equal(lines.length, 1)

    const tls = { ca: agent.reply.caCertificate, cert: agent.reply.certificate, key: agent.keyPem }
    const { status, body } = await refusedUpgrade(agent.url, tls)
    assert.equal(status, 409)
    assert.match(JSON.stringify(body), /E_CONFLICT.*cloned-host/)
    const json = { certificateRequest: await createRequest(await createKeyPair()) }
    const renewal = await scheduler
      .apiWith(undefined)
      .failure({ method: 'POST', path: '/v1/renew', json, tls })
    assert.equal(renewal.details?.reason, 'cloned-host')
  })

  it('stays refused over a restart of the scheduler, until somebody settles it', async () => {
    await noticed()
    await scheduler.stop()
    await scheduler.startAgain()
    assert.ok((await host()).conditions.some(({ id }) => id === 'cloned-host'))
    await scheduler.api.post(`/v1/hosts/${agent.id}/settle`)
    await live(agent)
    assert.equal((await host()).state, 'connected')
    assert.deepEqual((await host()).conditions, [])
    const again = await scheduler.api.failure({ method: 'POST', path: `/v1/hosts/${agent.id}/settle` })
    assert.equal(again.code, 'E_CONFLICT')
  })

  it('is refused again when both machines still live', async () => {
    await noticed()
    await scheduler.api.post(`/v1/hosts/${agent.id}/settle`)
    assert.deepEqual(await noticed(), { agent: 4003, copy: 4003 })
  })

  it('is not cloned by agents that are restarted, however often', async () => {
    for (let run = 0; run < 20; run++) {
      agent.instance = randomUUID()
      await live(agent)
    }
    assert.deepEqual((await host()).conditions, [])
    assert.equal((await host()).state, 'connected')
  })

  it('is not cloned by a connection that breaks again and again, also across a restart', async () => {
    for (let run = 0; run < 3; run++) {
      for (let time = 0; time < 3; time++) {
        await live(agent)
        agent.hangUp()
      }
      agent.instance = randomUUID()
    }
    await live(agent)
    assert.equal((await host()).state, 'connected')
  })

  it('is not cloned by the hello of a dead agent that was under way for long', async () => {
    const dead = agent.instance
    const living = randomUUID()
    agent.instance = living
    await live(agent)
    // The run before was killed with its hello on the way: nothing else ever comes of it.
    copy.instance = dead
    await copy.connect()
    copy.hangUp()
    await live(agent)
    assert.equal((await host()).state, 'connected')
    assert.deepEqual((await host()).conditions, [])
  })
})
