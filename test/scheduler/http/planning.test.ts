// Dry runs over HTTP: every route that makes commands has its host plan them, and nothing else comes of it.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import type { OperationList, OperationReply } from '../../../src/protocol/api.ts'
import { queryOf, takesDryRun } from '../../../src/scheduler/http/planning.ts'
import { routes } from '../../../src/scheduler/http/routes.ts'
import { vmSummary } from '../support/samples.ts'
import { TestScheduler } from '../support/test-scheduler.ts'

const image = { url: 'https://x/y', sha256: 'a'.repeat(64), format: 'qcow2' }
const specification = {
  ...{ name: 'web-9', profile: 'starter', image, cpus: 1 },
  ...{ memoryBytes: 64 * 1024 ** 2, rootDiskBytes: 1024 ** 2 }
}

async function connected(scheduler: TestScheduler, vms = [] as ReturnType<typeof vmSummary>[]) {
  const agent = await scheduler.enroll()
  await agent.connect()
  agent.sendInventory({ vms })
  await agent.sync()
  return agent
}

describe('dryRun', { timeout: 60_000 }, () => {
  it('is taken by every route that makes commands, but the one that may end an operation here', () => {
    const without = routes
      .filter((route) => route.status === 202 && !takesDryRun(route))
      .map(({ method, path }) => `${method} ${path}`)
    assert.deepEqual(without, ['POST /v1/operations/{id}/cancel'])
    for (const route of routes)
      assert.equal(
        'dryRun' in ((queryOf(route) as { properties?: object })?.properties ?? {}),
        takesDryRun(route)
      )
  })

  it('has the host plan the command, whose arguments it gets as they would be, and records no VM', async () => {
    await using scheduler = await TestScheduler.start()
    const agent = await connected(scheduler)
    const { api } = scheduler
    const { operation } = await api.post<OperationReply>('/v1/vms?dryRun=true', { specification })
    assert.deepEqual([operation.verb, operation.vm], ['operation.plan', 'web-9'])
    const { claims } = await agent.nextCommand()
    const asked = claims.arguments as {
      verb: string
      arguments: Record<string, unknown>
      subject: { vm: string; uuid: string }
    }
    assert.equal(asked.verb, 'vm.provision')
    assert.deepEqual(asked.arguments, { specification: { ...specification, uuid: asked.subject.uuid } })
    assert.equal(claims.subject, undefined)
    assert.equal((await api.failure({ path: '/v1/vms/web-9' })).code, 'E_NOT_FOUND')
    // The name is free still, and the key of a plan is not that of the request.
    const once = { headers: { 'idempotency-key': 'once' } }
    await api.post('/v1/vms?dryRun=true', { specification }, once)
    const real = await api.post<OperationReply>('/v1/vms', { specification }, once)
    assert.equal(real.operation.verb, 'vm.provision')
  })

  it('of a VM names it without a generation, and is in nobody’s way', async () => {
    await using scheduler = await TestScheduler.start()
    const vm = vmSummary()
    const agent = await connected(scheduler, [vm])
    const { api } = scheduler
    await api.delete(`/v1/vms/${vm.name}?dryRun=true&retainDays=7`)
    const { claims } = await agent.nextCommand()
    assert.deepEqual(claims.arguments, {
      verb: 'vm.teardown',
      arguments: { vm: vm.name, retainDays: 7 },
      subject: { vm: vm.name, uuid: vm.uuid }
    })
    const { operations } = await api.get<OperationList>(`/v1/operations?vm=${vm.name}`)
    assert.deepEqual(
      operations.map(({ id, verb }) => [id, verb]),
      [[claims.id, 'operation.plan']]
    )
    const shown = await api.get<{ vm: { wanted: string } }>(`/v1/vms/${vm.name}`)
    assert.equal(shown.vm.wanted, vm.wanted)
  })

  it('is refused for a host that is away, which alone could tell, and where it is no boolean', async () => {
    await using scheduler = await TestScheduler.start()
    const agent = await connected(scheduler, [vmSummary()])
    await agent.disconnect()
    const { api } = scheduler
    const failure = async (method: string, path: string) =>
      (await api.failure({ method, path, ...(method === 'POST' && { json: {} }) })).code
    assert.equal(await failure('POST', '/v1/vms/web-1/stop?dryRun=true'), 'E_UNAVAILABLE')
    assert.equal(await failure('POST', '/v1/vms/web-1/stop?dryRun=perhaps'), 'E_BAD_REQUEST')
    assert.equal(await failure('GET', '/v1/vms?dryRun=true'), 'E_BAD_REQUEST')
  })
})
