// Hosts are chosen for VMs: no room is promised twice, wishes are kept with the VM, and each choice can be explained.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { HostDetail, HostList, OperationReply, PlacementReply, VmReply } from '../../../src/protocol/api.ts'
import type { LabelsReply, PlacementWish } from '../../../src/protocol/placement.ts'
import { compile } from '../../../src/protocol/validate.ts'
import { gibibyte, hostFacts, specification, vmSummary } from '../support/samples.ts'
import type { TestAgent } from '../support/test-agent.ts'
import { TestScheduler } from '../support/test-scheduler.ts'

function body(name: string, placement?: PlacementWish) {
  return { specification: specification({ name, memoryBytes: gibibyte }), ...(placement && { placement }) }
}

async function withHosts(
  scheduler: TestScheduler,
  count: number,
  memoryBytes = 8 * gibibyte
): Promise<TestAgent[]> {
  const agents: TestAgent[] = []
  for (let index = 1; index <= count; index++) {
    const agent = await scheduler.enroll(`kvm-${index}`)
    await agent.connect()
    agent.sendInventory({ facts: hostFacts(agent.id, memoryBytes) })
    await agent.sync()
    agents.push(agent)
  }
  return agents
}

function label(scheduler: TestScheduler, host: string, set: Record<string, string>, remove: string[] = []) {
  return scheduler.api.ask({ method: 'PUT', path: `/v1/hosts/${host}/labels`, json: { set, remove } })
}

describe('twenty VMs that are asked for at once', () => {
  it('get no room twice, and those that do not fit are told why', async () => {
    await using scheduler = await TestScheduler.start()
    const agents = await withHosts(scheduler, 3, 4 * gibibyte)
    const answers = await Promise.all(
      Array.from({ length: 20 }, (_, index) =>
        scheduler.api.ask({ method: 'POST', path: '/v1/vms', json: body(`web-${index}`) })
      )
    )
    const placed = answers.filter(({ status }) => status === 202)
    assert.equal(placed.length, 12)
    const hosts = placed.map(({ body: reply }) => compile(OperationReply, 'reply')(reply).operation.host)
    for (const { id } of agents) assert.equal(hosts.filter((host) => host === id).length, 4, id)
    for (const { status, body: reply } of answers.filter((answer) => answer.status !== 202)) {
      assert.equal(status, 507)
      assert.match(
        JSON.stringify(reply),
        /of 3 hosts, 3 are with too little memory left.*0\.0 GiB of memory left/
      )
    }
  })
})

describe('a VM that was torn down and is kept', () => {
  it('leaves its memory, processors and place to others, and not yet the room of its disks', async () => {
    await using scheduler = await TestScheduler.start()
    const [one] = (await withHosts(scheduler, 1, 4 * gibibyte)) as [TestAgent]
    const kept = ['a', 'b', 'c', 'd'].map((name, index) =>
      vmSummary({
        ...{ name, uuid: `0b54e6f2-6b53-4a3e-9d1c-00000000000${index}`, memoryBytes: gibibyte },
        ...{ state: 'stopped', retainedUntil: scheduler.clock.now() + 86_400_000 }
      })
    )
    const wants = { cpus: 1, memoryBytes: 4 * gibibyte, diskBytes: gibibyte, group: 'web', apart: true }
    const choice = async () =>
      (await scheduler.api.post<PlacementReply>('/v1/placements', wants)).placement.host
    one.sendInventory({
      facts: hostFacts(one.id, 4 * gibibyte),
      vms: kept.map(({ retainedUntil: _kept, ...vm }) => vm)
    })
    await one.sync()
    assert.equal(await choice(), undefined)
    one.sendInventory({ facts: hostFacts(one.id, 4 * gibibyte), vms: kept })
    await one.sync()
    assert.equal(await choice(), one.id)
  })
})

describe('labels of a host', () => {
  it('are set, changed and removed, shown, and what lists are narrowed by', async () => {
    await using scheduler = await TestScheduler.start()
    const [one, two] = (await withHosts(scheduler, 2)) as [TestAgent, TestAgent]
    await label(scheduler, one.id, { region: 'eu', rack: 'r1' })
    await label(scheduler, two.id, { region: 'us' })
    const { body: changed } = await label(scheduler, one.id, { rack: 'r2', size: 'L' }, ['region'])
    assert.deepEqual((changed as LabelsReply).labels, { rack: 'r2', size: 'L' })
    const { host } = compile(HostDetail, 'host')(await scheduler.api.get(`/v1/hosts/${one.id}`))
    assert.deepEqual(host.labels, { rack: 'r2', size: 'L' })
    const listed = async (query: string) =>
      compile(
        HostList,
        'hosts'
      )(await scheduler.api.get(`/v1/hosts?label=${query}`)).hosts.map(({ id }) => id)
    assert.deepEqual(await listed('rack=r2,size=L'), [one.id])
    assert.deepEqual(await listed('rack=r2,size=M'), [])
    assert.deepEqual((await listed('hostlet/accelerator=kvm')).sort(), [one.id, two.id].sort())
  })

  it('are refused where they are none, are the scheduler’s own, contradict or are too many', async () => {
    await using scheduler = await TestScheduler.start()
    const [{ id }] = (await withHosts(scheduler, 1)) as [TestAgent]
    const many = Object.fromEntries(Array.from({ length: 40 }, (_, index) => [`key-${index}`, 'v']))
    const more = Object.fromEntries(Array.from({ length: 40 }, (_, index) => [`other-${index}`, 'v']))
    assert.equal((await label(scheduler, id, many)).status, 200)
    for (const refused of [
      await label(scheduler, id, { 'UPPER CASE': 'x' }),
      await label(scheduler, id, { 'hostlet/accelerator': 'kvm' }),
      await label(scheduler, id, { region: 'e u' }),
      await label(scheduler, id, { region: 'eu' }, ['region']),
      await label(scheduler, id, more)
    ])
      assert.equal(refused.status, 400, JSON.stringify(refused.body))
    assert.equal((await label(scheduler, 'nobody', { a: 'b' })).status, 404)
    const { host } = compile(HostDetail, 'host')(await scheduler.api.get(`/v1/hosts/${id}`))
    assert.deepEqual(host.labels, many)
  })
})

describe('a VM with wishes', () => {
  it('goes where they are met, keeps them, and its operation explains the choice', async () => {
    await using scheduler = await TestScheduler.start()
    const [one, two] = (await withHosts(scheduler, 2)) as [TestAgent, TestAgent]
    await label(scheduler, two.id, { region: 'eu' })
    const wish = { require: { region: 'eu' }, group: 'web' }
    const { operation } = await scheduler.api.post<OperationReply>('/v1/vms', body('web-1', wish))
    assert.equal(operation.host, two.id)
    const { vm } = compile(VmReply, 'vm')(await scheduler.api.get('/v1/vms/web-1'))
    assert.deepEqual(vm.placement, wish)
    const { placement } = compile(
      PlacementReply,
      'placement'
    )(await scheduler.api.get(`/v1/operations/${operation.id}/placement`))
    assert.deepEqual([placement.host, placement.named, placement.hosts], [two.id, false, 2])
    assert.deepEqual(
      placement.refused.map(({ host, filter }) => [host, filter]),
      [[one.id, 'labels']]
    )
    assert.deepEqual(
      placement.ranking.map(({ host }) => host),
      [two.id]
    )
  })

  it('is not put beside another of its group that was asked for just before', async () => {
    await using scheduler = await TestScheduler.start()
    const agents = await withHosts(scheduler, 2)
    const apart = { group: 'db', apart: true }
    const asked = ['db-1', 'db-2', 'db-3'].map((name) =>
      scheduler.api.ask({ method: 'POST', path: '/v1/vms', json: body(name, apart) })
    )
    const answers = await Promise.all(asked)
    const placed = answers.filter(({ status }) => status === 202)
    const hosts = placed.map(({ body: reply }) => (reply as OperationReply).operation.host)
    assert.deepEqual(hosts.sort(), agents.map(({ id }) => id).sort())
    const third = answers.find(({ status }) => status !== 202)
    assert.match(JSON.stringify(third?.body), /E_CAPACITY.*2 are with a VM of the group/)
  })

  it('goes to the host that is named, whatever speaks against it, and that is told', async () => {
    await using scheduler = await TestScheduler.start()
    const [one] = (await withHosts(scheduler, 2)) as [TestAgent]
    const asked = { ...body('web-1', { require: { region: 'eu' } }), host: one.id }
    const { operation } = await scheduler.api.post<OperationReply>('/v1/vms', asked)
    assert.equal(operation.host, one.id)
    const { placement } = await scheduler.api.get<PlacementReply>(`/v1/operations/${operation.id}/placement`)
    assert.deepEqual([placement.named, placement.refused[0]?.filter], [true, 'labels'])
  })
})

describe('where a VM would stand', () => {
  it('is told without making one or keeping room', async () => {
    await using scheduler = await TestScheduler.start()
    const [one] = (await withHosts(scheduler, 1, 4 * gibibyte)) as [TestAgent]
    const wants = { cpus: 1, memoryBytes: 3 * gibibyte, diskBytes: gibibyte }
    for (const _ of [1, 2]) {
      const { placement } = await scheduler.api.post<PlacementReply>('/v1/placements', wants)
      assert.equal(placement.host, one.id)
    }
    const { placement } = await scheduler.api.post<PlacementReply>('/v1/placements', { ...wants, cpus: 64 })
    assert.deepEqual([placement.host, placement.refused[0]?.filter], [undefined, 'cpus'])
    assert.deepEqual(await scheduler.api.get('/v1/vms'), { vms: [], more: false })
  })

  it('is no question to operations that placed nothing', async () => {
    await using scheduler = await TestScheduler.start()
    const [one] = (await withHosts(scheduler, 1)) as [TestAgent]
    const { operation } = await scheduler.api.post<OperationReply>(`/v1/hosts/${one.id}/refresh`)
    const error = await scheduler.api.failure({ path: `/v1/operations/${operation.id}/placement` })
    assert.deepEqual([error.code, error.status], ['E_NOT_FOUND', 404])
  })
})
