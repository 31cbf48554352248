// How long a VM that is removed is kept where its asker does not say: as the scheduler is configured, and what is exempt.

import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import type { StatusView, VmReply } from '../../../src/protocol/api.ts'
import { specification, vmSummary } from '../support/samples.ts'
import type { TestAgent } from '../support/test-agent.ts'
import { TestScheduler } from '../support/test-scheduler.ts'

const dayMs = 86_400_000

describe('VMs that are removed', { timeout: 60_000 }, () => {
  let scheduler: TestScheduler
  let agent: TestAgent
  const present: ReturnType<typeof vmSummary>[] = []

  before(async () => {
    scheduler = await TestScheduler.start((config) => ({ ...config, vms: { retainDays: 30 } }))
    agent = await scheduler.enroll('kvm-1')
    await agent.connect()
    agent.sendInventory()
    await agent.sync()
  })
  after(() => scheduler[Symbol.asyncDispose]())

  async function end(id: string, value: Record<string, unknown>): Promise<void> {
    agent.acknowledge(id)
    agent.finish(id, value)
    await agent.sync()
  }

  /** Its host has made it and tells of it. */
  async function provision(name: string): Promise<string> {
    await scheduler.api.post('/v1/vms', { specification: specification({ name }), host: agent.id })
    const { claims } = await agent.nextCommand()
    const uuid = claims.subject?.uuid ?? ''
    await end(claims.id, { vm: vmSummary({ name, uuid }) })
    present.push(vmSummary({ name, uuid }))
    await tell()
    return uuid
  }

  async function tell(): Promise<void> {
    agent.sendInventory({ vms: [...present] })
    await agent.sync()
  }

  async function asked(name: string, query = ''): Promise<unknown> {
    await scheduler.api.delete(`/v1/vms/${name}${query}`)
    const { claims } = await agent.nextCommand()
    await end(claims.id, {
      ...{ vm: name, uuid: claims.subject?.uuid, removed: [], remaining: [], existed: true },
      ...(claims.arguments.retainDays === undefined
        ? {}
        : { retainedUntil: scheduler.clock.now() + Number(claims.arguments.retainDays) * dayMs })
    })
    return claims.arguments
  }

  it('are kept for as long as is configured, which the status tells', async () => {
    await provision('web-1')
    assert.deepEqual(await asked('web-1'), { vm: 'web-1', retainDays: 30 })
    assert.equal((await scheduler.api.get<StatusView>('/v1/status')).retainDays, 30)
    // What it was to be stays: somebody may have it back.
    assert.equal((await scheduler.api.get<VmReply>('/v1/vms/web-1')).vm.wanted, 'running')
  })

  it('are kept for as long as is asked for, or not at all', async () => {
    await provision('web-2')
    assert.deepEqual(await asked('web-2', '?retainDays=7'), { vm: 'web-2', retainDays: 7 })
    await provision('web-3')
    assert.deepEqual(await asked('web-3', '?retainDays=0'), { vm: 'web-3' })
    for (const days of [-1, 3_651, 1.5, 'many']) {
      const failure = await scheduler.api.failure({
        method: 'DELETE',
        path: `/v1/vms/web-3?retainDays=${days}`
      })
      assert.equal(failure.code, 'E_BAD_REQUEST')
    }
  })

  it('are erased at once where their host has none', async () => {
    await scheduler.api.post('/v1/vms', { specification: specification({ name: 'web-4' }), host: agent.id })
    const { claims } = await agent.nextCommand()
    const uuid = claims.subject?.uuid ?? ''
    assert.deepEqual(await asked('web-4'), { vm: 'web-4' })
    await end(claims.id, { vm: vmSummary({ name: 'web-4', uuid }) })
  })

  it('are not erased by who asks once more, but where that is said', async () => {
    const kept = await provision('web-5')
    await asked('web-5')
    const retainedUntil = scheduler.clock.now() + 30 * dayMs
    present.pop()
    present.push(vmSummary({ name: 'web-5', uuid: kept, state: 'stopped', retainedUntil }))
    await tell()
    const again = await scheduler.api.failure({ method: 'DELETE', path: '/v1/vms/web-5' })
    assert.equal(again.code, 'E_CONFLICT')
    assert.match(again.message, /kept until .*vm rm web-5 --now.*vm undelete web-5/)
    assert.deepEqual(await asked('web-5', '?retainDays=0'), { vm: 'web-5' })
  })
})
