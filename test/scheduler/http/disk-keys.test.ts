// Keys of disks through a real scheduler: what hosts tell and ask over the socket, and what the API gives to whom.

import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { after, before, describe, it } from 'node:test'
import type { CreatedKey, DiskKeyList, OperationReply, VmDiskKeys } from '../../../src/protocol/api.ts'
import { escrowedKey, key1, key2, specification, vmSummary } from '../support/samples.ts'
import type { TestAgent } from '../support/test-agent.ts'
import { TestScheduler } from '../support/test-scheduler.ts'

const wrapped = 'aG9zdA.a2V5.aXY.aG9zdC1jaXBoZXJ0ZXh0.dGFn'

describe('keys of disks over socket and API', { timeout: 60_000 }, () => {
  let scheduler: TestScheduler
  let agent: TestAgent
  let other: TestAgent
  let uuid = ''

  before(async () => {
    scheduler = await TestScheduler.start()
    agent = await scheduler.enroll('kvm-1')
    other = await scheduler.enroll('kvm-2')
    for (const each of [agent, other]) {
      await each.connect()
      each.sendInventory()
      await each.sync()
    }
    await scheduler.api.post('/v1/vms', { specification: specification(), host: agent.id })
    const { claims } = await agent.nextCommand()
    uuid = claims.subject?.uuid ?? ''
    agent.acknowledge(claims.id)
    agent.finish(claims.id, { vm: vmSummary({ uuid }) })
    await agent.sync()
  })
  after(() => scheduler[Symbol.asyncDispose]())

  const show = (name = 'web-1') => scheduler.api.get<VmDiskKeys>(`/v1/vms/${name}/disk-keys`)
  async function ask(by: TestAgent, ids: string[]) {
    const request = randomUUID()
    by.send({ type: 'disk-keys-request', request, ids })
    const { type: _type, request: answered, ...grant } = await by.next('disk-keys-grant')
    assert.equal(answered, request)
    return grant
  }

  it('are kept and acknowledged with the revision that was told', async () => {
    const keys = [escrowedKey({ uuid, revision: 3, host: { wrapped } }), escrowedKey({ uuid, id: key2 })]
    agent.send({ type: 'disk-keys', keys })
    assert.deepEqual((await agent.next('disk-keys-ack')).keys, [
      { id: key1, revision: 3 },
      { id: key2, revision: 1 }
    ])
    const shown = await show()
    assert.deepEqual(await show(uuid), shown)
    const found = shown.keys.find(({ id }) => id === key1)
    assert.deepEqual([found?.host, found?.place, found?.recipients], [agent.id, 'scheduler', ['fleet']])
    assert.deepEqual(found?.recovery, keys[0]?.recovery)
    assert.equal(JSON.stringify(shown).includes(wrapped), false)
    const { keys: all } = await scheduler.api.get<DiskKeyList>(`/v1/disk-keys?host=${agent.id}`)
    assert.equal(all.length, 2)
  })

  it('of the VMs of others are not kept, and their host hears why', async () => {
    other.send({ type: 'disk-keys', keys: [escrowedKey({ uuid, id: randomUUID() })] })
    const [answer] = (await other.next('disk-keys-ack')).keys
    assert.match(answer?.fault ?? '', /another host/)
    assert.equal((await show()).keys.length, 2)
  })

  it('are given to their host until they are withheld', async () => {
    const { revision: _r, recovery: _w, ...granted } = escrowedKey({ uuid, host: { wrapped } })
    assert.deepEqual(await ask(agent, [key1]), { keys: [granted], denied: [] })
    assert.deepEqual((await ask(other, [key1])).denied, [{ id: key1, reason: 'unknown' }])
    const held = await scheduler.api.post<VmDiskKeys>('/v1/vms/web-1/disk-keys/withhold', {})
    assert.equal(held.withheldAt, scheduler.clock.now())
    assert.deepEqual((await ask(agent, [key1])).denied, [{ id: key1, reason: 'withheld' }])
    const free = await scheduler.api.post<VmDiskKeys>(`/v1/vms/${uuid}/disk-keys/release`, {})
    assert.equal(free.withheldAt, undefined)
    assert.equal((await ask(agent, [key1])).keys.length, 1)
  })

  it('are for keys of tier admin only', async () => {
    const { text } = await scheduler.api.post<CreatedKey>('/v1/keys', { tier: 'manage' })
    const api = scheduler.apiWith(text)
    const paths: readonly [method: 'GET' | 'POST', path: string, body?: unknown][] = [
      ['GET', '/v1/disk-keys'],
      ['GET', '/v1/vms/web-1/disk-keys'],
      ['POST', '/v1/vms/web-1/disk-keys/withhold', {}],
      ['POST', '/v1/vms/web-1/disk-keys/release', {}],
      ['POST', '/v1/vms/web-1/adopt-keys', { keys: [{ id: key1, jwe: wrapped }] }]
    ]
    for (const [method, path, body] of paths) {
      const { code, message } = await api.failure({ method, path, ...(body !== undefined && { body }) })
      assert.equal(code, 'E_AUTH', path)
      assert.match(message, /tier admin/)
    }
  })

  it('come back to their host by a command', async () => {
    const keys = [{ id: key1, jwe: wrapped }]
    const { operation } = await scheduler.api.post<OperationReply>('/v1/vms/web-1/adopt-keys', { keys })
    const { claims } = await agent.nextCommand()
    assert.deepEqual([claims.id, claims.verb], [operation.id, 'vm.adopt-keys'])
    assert.deepEqual(claims.arguments, { vm: 'web-1', keys })
    assert.equal(claims.subject?.uuid, uuid)
    agent.acknowledge(claims.id)
    agent.finish(claims.id, { vm: 'web-1', adopted: [key1], missing: [] })
    await agent.sync()
  })

  it('are destroyed when their host says so, and stay listed for a while', async () => {
    other.send({ type: 'disk-keys-gone', keys: [{ id: key1, uuid }] })
    assert.deepEqual((await other.next('disk-keys-gone-ack')).keys, [{ id: key1, uuid }])
    assert.equal((await show()).keys.length, 2)
    agent.send({
      type: 'disk-keys-gone',
      keys: [
        { id: key1, uuid },
        { id: randomUUID(), uuid }
      ]
    })
    assert.equal((await agent.next('disk-keys-gone-ack')).keys.length, 2)
    assert.deepEqual(
      (await show()).keys.map(({ id }) => id),
      [key2]
    )
    assert.deepEqual((await ask(agent, [key1])).denied, [{ id: key1, reason: 'unknown' }])
    const { keys } = await scheduler.api.get<VmDiskKeys>('/v1/vms/web-1/disk-keys?removed=true')
    const gone = keys.find(({ id }) => id === key1)
    assert.deepEqual([gone?.recovery, gone?.recipients], [undefined, []])
    assert.equal(gone?.removedAt, scheduler.clock.now())
    agent.send({ type: 'disk-keys-gone', keys: [{ uuid }] })
    assert.deepEqual((await agent.next('disk-keys-gone-ack')).keys, [{ uuid }])
    assert.deepEqual((await show()).keys, [])
  })

  it('that nobody knows are not found', async () => {
    for (const name of ['nobody', randomUUID()])
      assert.equal((await scheduler.api.failure({ path: `/v1/vms/${name}/disk-keys` })).code, 'E_NOT_FOUND')
  })
})
