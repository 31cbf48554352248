// Lists that are cut and filtered by the scheduler, so that whoever looks at a large fleet need not have all of it.

import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { after, before, describe, it } from 'node:test'
import type {
  HostMetrics,
  LatestMetrics,
  OperationList,
  OperationReply,
  VmList,
  VmMetrics
} from '../../../src/protocol/api.ts'
import type { VmSummary } from '../../../src/protocol/vm.ts'
import { metricsSample, specification, uuid1, vmSample, vmSummary } from '../support/samples.ts'
import type { TestAgent } from '../support/test-agent.ts'
import { TestScheduler } from '../support/test-scheduler.ts'

const drift: NonNullable<VmSummary['drift']>[number] = {
  ...{ id: 'memory', title: 'memory', recorded: '1', actual: '2', since: 1, next: 'look' },
  ...({ severity: 'warning', repair: 'ask' } as const)
}

describe('lists of a large fleet', () => {
  let scheduler: TestScheduler
  let first: TestAgent
  let second: TestAgent

  before(async () => {
    scheduler = await TestScheduler.start()
    first = await scheduler.enroll('kvm-1')
    second = await scheduler.enroll('kvm-2')
    for (const agent of [first, second]) await agent.connect()
    const named = (name: string, change: Partial<VmSummary> = {}) =>
      vmSummary({ name, uuid: randomUUID(), address: '10.83.0.9', ...change })
    first.sendInventory({
      vms: [
        named('web-1', { uuid: uuid1, address: '10.83.7.1' }),
        named('web-2', { state: 'stopped', wanted: 'stopped' }),
        named('web-3', { state: 'crashed' }),
        named('web-4', { state: 'stopped', wanted: 'running' }),
        named('web-5', { drift: [drift] }),
        named('web-6', { health: [{ name: 'https', state: 'unhealthy', since: 1 }] }),
        named('web-7', { health: [{ name: 'https', state: 'healthy', since: 1 }], drift: [] }),
        named('web-8', { state: 'stopped', retainedUntil: 9_000_000_000_000 })
      ]
    })
    const body = { host: second.id, specification: specification({ name: 'gone' }) }
    const { operation } = await scheduler.api.post<OperationReply>('/v1/vms', body)
    const { claims } = await second.nextCommand()
    second.acknowledge(operation.id)
    second.finish(operation.id)
    const kept = named('db-1', { profile: 'premium' })
    second.sendInventory({ vms: [kept, named('gone', { uuid: claims.subject?.uuid ?? '' })] })
    second.sendInventory({ vms: [kept] })
    for (const agent of [first, second]) await agent.sync()
    await scheduler.api.post('/v1/vms', { host: second.id, specification: specification({ name: 'new-1' }) })
  })
  after(() => scheduler[Symbol.asyncDispose]())

  const namesOf = async (query: string) =>
    (await scheduler.api.get<VmList>(`/v1/vms?${query}`)).vms.map(({ name }) => name)

  it('find VMs by a part of what they are, whatever its case', async () => {
    assert.deepEqual(await namesOf('search=WEB-1'), ['web-1'])
    assert.deepEqual(await namesOf('search=prem'), ['db-1'])
    assert.deepEqual(await namesOf('search=10.83.7'), ['web-1'])
    assert.deepEqual((await namesOf('search=kvm-2')).includes('new-1'), true)
    assert.deepEqual(await namesOf('search=%25'), [])
    assert.deepEqual(await namesOf("search=' OR 1=1 --"), [])
  })

  it('take VMs by the state that is shown of them', async () => {
    assert.deepEqual(await namesOf('state=running'), ['db-1', 'web-1', 'web-5', 'web-6', 'web-7'])
    assert.deepEqual(await namesOf('state=stopped'), ['web-2', 'web-4'])
    assert.deepEqual(await namesOf('state=retained'), ['web-8'])
    assert.deepEqual(await namesOf('state=missing'), ['gone'])
    assert.deepEqual(await namesOf('state=pending'), ['new-1'])
    for (const { name, state } of (await scheduler.api.get<VmList>('/v1/vms')).vms)
      assert.ok((await namesOf(`state=${state}`)).includes(name), `${name} is ${state}`)
  })

  it('take VMs that need a look, or those that do not', async () => {
    const amiss = ['gone', 'web-3', 'web-4', 'web-5', 'web-6']
    assert.deepEqual(await namesOf('amiss=true'), amiss)
    assert.deepEqual(await namesOf('amiss=false'), ['db-1', 'new-1', 'web-1', 'web-2', 'web-7', 'web-8'])
    assert.deepEqual(await namesOf('amiss=true&search=web&state=stopped'), ['web-4'])
  })

  it('come in pages, each after the last name of the one before', async () => {
    const all = await namesOf('limit=1000')
    const seen: string[] = []
    for (let after: string | undefined; ; ) {
      const { vms, more } = await scheduler.api.get<VmList>(
        `/v1/vms?limit=4${after ? `&after=${after}` : ''}`
      )
      seen.push(...vms.map(({ name }) => name))
      after = vms.at(-1)?.name
      if (!more) break
    }
    assert.deepEqual(seen, all)
    assert.deepEqual(await namesOf('host=kvm-1&after=web-6'), ['web-7', 'web-8'])
  })

  it('have the newest figures of those that were asked for alone', async () => {
    const at = scheduler.clock.now()
    first.send({ type: 'metrics', samples: [metricsSample(at, [vmSample({ cpuCoresUsed: 0.25 })])] })
    await first.sync()
    const hosts = await scheduler.api.get<LatestMetrics>('/v1/metrics/latest?of=hosts')
    assert.deepEqual([hosts.hosts.length, hosts.vms.length], [2, 0])
    assert.equal(hosts.hosts[0]?.at, at)
    const vms = await scheduler.api.get<LatestMetrics>('/v1/metrics/latest?of=vms&search=web&limit=2')
    assert.deepEqual([vms.hosts.length, vms.more], [0, true])
    assert.deepEqual(
      vms.vms.map(({ vm, sample }) => [vm.name, sample?.cpuCoresUsed]),
      [
        ['web-1', 0.25],
        ['web-2', undefined]
      ]
    )
    const all = await scheduler.api.get<LatestMetrics>('/v1/metrics/latest')
    assert.deepEqual([all.hosts.length, all.vms.length, all.more], [2, 11, false])
  })

  it('thin samples out to the newest of each span', async () => {
    const at = 1_000_000
    const samples = [0, 10, 20, 30, 40, 50].map((seconds) =>
      metricsSample(at + seconds * 1_000, [vmSample({ cpuCoresUsed: seconds })])
    )
    second.send({ type: 'metrics', samples })
    await second.sync()
    const path = `/v1/hosts/${second.id}/metrics?sinceMs=${at}`
    const times = async (query: string) =>
      (await scheduler.api.get<HostMetrics>(`${path}${query}`)).points.map((point) => point.at - at)
    assert.equal((await times('')).length, 6)
    assert.deepEqual(await times('&stepMs=20000'), [10_000, 30_000, 50_000])
    assert.deepEqual(await times('&stepMs=20000&limit=2'), [30_000, 50_000])
    first.send({ type: 'metrics', samples })
    await first.sync()
    const { points } = await scheduler.api.get<VmMetrics>('/v1/vms/web-1/metrics?stepMs=30000&limit=1000')
    assert.deepEqual(
      points.slice(0, 3).map(({ sample }) => sample.cpuCoresUsed),
      [10, 40, 50]
    )
  })

  it('tell operations under way from those that have ended', async () => {
    const asked = await scheduler.api.post<OperationReply>('/v1/vms/web-2/start')
    await first.nextCommand()
    first.acknowledge(asked.operation.id)
    first.finish(asked.operation.id)
    await first.sync()
    const verbs = async (query: string) =>
      (await scheduler.api.get<OperationList>(`/v1/operations?${query}`)).operations.map(({ verb }) => verb)
    assert.deepEqual(await verbs('open=true'), ['vm.provision'])
    assert.deepEqual(await verbs('open=false'), ['vm.start', 'vm.provision'])
  })

  it('have what is about a VM without changing it, apart where that is asked for', async () => {
    const { operation } = await scheduler.api.post<OperationReply>('/v1/vms/web-2/audit')
    assert.deepEqual([operation.verb, operation.vm], ['vm.audit', 'web-2'])
    const { claims } = await first.nextCommand()
    assert.equal(claims.subject, undefined)
    const verbs = async (query: string) =>
      (await scheduler.api.get<OperationList>(`/v1/operations?vm=web-2&${query}`)).operations.map(
        ({ verb }) => verb
      )
    const changes = await verbs('looks=false')
    assert.ok(changes.includes('vm.start') && !changes.includes('vm.audit'))
    assert.deepEqual(await verbs('looks=true'), ['vm.audit'])
    assert.deepEqual(await verbs(''), ['vm.audit', ...changes])
    first.acknowledge(operation.id)
    first.finish(operation.id)
    await first.sync()
  })

  it('refuse what is misspelt, and say what there is', async () => {
    for (const query of ['state=asleep', 'amis=true', 'after=..%2f', 'amiss=maybe']) {
      const { status, code } = await scheduler.api.failure({ path: `/v1/vms?${query}` })
      assert.deepEqual([status, code], [400, 'E_BAD_REQUEST'], query)
    }
  })
})
