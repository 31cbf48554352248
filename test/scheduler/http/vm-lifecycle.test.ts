// The end of VMs over the API: what hosts are asked, what becomes of their certificates, and who may ask.

import assert from 'node:assert/strict'
import { createPrivateKey, randomUUID, sign } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { after, before, describe, it } from 'node:test'
import { signStatement } from '../../../src/lib/statement.ts'
import type { CreatedKey, EraseCertificateReply, StatusView, VmReply } from '../../../src/protocol/api.ts'
import type { CommandClaims } from '../../../src/protocol/command.ts'
import { type EraseCertificate, eraseJwsType } from '../../../src/protocol/lifecycle.ts'
import { specification, vmSummary } from '../support/samples.ts'
import type { TestAgent } from '../support/test-agent.ts'
import { TestScheduler } from '../support/test-scheduler.ts'

describe('the end of a VM over the API', { timeout: 120_000 }, () => {
  let scheduler: TestScheduler
  let agent: TestAgent

  before(async () => {
    scheduler = await TestScheduler.start()
    agent = await scheduler.enroll('kvm-1')
    await agent.connect()
    agent.sendInventory()
    await agent.sync()
  })
  after(() => scheduler[Symbol.asyncDispose]())

  async function provision(name: string): Promise<string> {
    await scheduler.api.post('/v1/vms', { specification: { ...specification(), name }, host: agent.id })
    const { claims } = await agent.nextCommand()
    const uuid = claims.subject?.uuid ?? ''
    await done(claims, { vm: vmSummary({ name, uuid }) })
    return uuid
  }

  async function done(claims: CommandClaims, value: Record<string, unknown>): Promise<void> {
    agent.acknowledge(claims.id)
    agent.finish(claims.id, value)
    await agent.sync()
  }

  function claimsOf(vm: string, uuid: string, change: Partial<EraseCertificate> = {}): EraseCertificate {
    const now = scheduler.clock.now()
    return {
      id: randomUUID(),
      host: agent.id,
      ...{ vm, uuid, operation: randomUUID(), startedAt: now, finishedAt: now },
      keys: [],
      volumes: [{ name: 'x.root.qcow2', encrypted: false, outcome: 'removed' }],
      method: { keys: 'k', volumes: 'v', note: 'n' },
      escrow: [],
      backups: { asked: false, erased: [], remaining: [], unknown: [], notListed: 0 },
      ...change
    }
  }

  function signed(claims: EraseCertificate): Promise<string> {
    const key = createPrivateKey(agent.keyPem)
    return signStatement(eraseJwsType, claims, {
      certificates: [agent.reply.certificate],
      sign: async (bytes) => sign('sha256', bytes, { key, dsaEncoding: 'ieee-p1363' })
    })
  }

  const result = (vm: string, uuid: string, more: Record<string, unknown>) => ({
    ...{ vm, uuid, removed: [], remaining: [], existed: true },
    ...more
  })
  const certificateOf = (vm: string) =>
    scheduler.api.get<EraseCertificateReply>(`/v1/vms/${vm}/erase-certificate`)

  it('checks and keeps the certificate of a teardown, found by name and UUID after the VM is gone', async () => {
    const uuid = await provision('web-1')
    await scheduler.api.delete('/v1/vms/web-1')
    const { claims } = await agent.nextCommand()
    assert.deepEqual(claims.arguments, { vm: 'web-1' })
    const certificate = await signed(claimsOf('web-1', uuid, { operation: claims.id }))
    await done(claims, result('web-1', uuid, { certificate }))
    await assert.rejects(scheduler.api.get('/v1/vms/web-1'))
    for (const vm of ['web-1', uuid]) {
      const answer = await certificateOf(vm)
      assert.deepEqual([answer.certificate, answer.verified], [certificate, true])
    }
  })

  it('keeps one that it cannot believe, and says why', async () => {
    const uuid = await provision('web-2')
    await scheduler.api.delete('/v1/vms/web-2')
    const { claims } = await agent.nextCommand()
    const good = await signed(claimsOf('web-2', uuid, { operation: claims.id }))
    const [header, , signature] = good.split('.')
    const other = Buffer.from(JSON.stringify(claimsOf('web-2', uuid, { operation: claims.id }))).toString(
      'base64url'
    )
    await done(claims, result('web-2', uuid, { certificate: `${header}.${other}.${signature}` }))
    const answer = await certificateOf(uuid)
    assert.equal(answer.verified, false)
    assert.match(answer.fault ?? '', /signature does not fit/)
  })

  it('keeps the record of a VM that is kept, shows it apart, and drops it with the certificate that comes later', async () => {
    const uuid = await provision('web-3')
    const { vms } = await scheduler.api.get<StatusView>('/v1/status')
    await scheduler.api.delete('/v1/vms/web-3?retainDays=7')
    const { claims } = await agent.nextCommand()
    assert.deepEqual(claims.arguments, { vm: 'web-3', retainDays: 7 })
    const retainedUntil = scheduler.clock.now() + 7 * 86_400_000
    await done(claims, result('web-3', uuid, { retainedUntil }))
    agent.sendInventory({ vms: [vmSummary({ name: 'web-3', uuid, state: 'stopped', retainedUntil })] })
    await agent.sync()
    const { vm } = await scheduler.api.get<VmReply>('/v1/vms/web-3')
    assert.deepEqual([vm.state, vm.retainedUntil, vm.wanted], ['retained', retainedUntil, 'running'])
    assert.equal((await scheduler.api.get<StatusView>('/v1/status')).vms.total, vms.total - 1)
    await assert.rejects(
      scheduler.api.post('/v1/vms', { specification: specification({ name: 'web-3' }), host: agent.id }),
      /undelete/
    )
    const erased = claimsOf('web-3', uuid)
    const certificate = await signed(erased)
    for (let times = 0; times < 2; times++) {
      agent.send({ type: 'erasures', certificates: [{ id: erased.id, certificate }] })
      await agent.sync()
    }
    await assert.rejects(scheduler.api.get('/v1/vms/web-3'))
    assert.equal((await certificateOf('web-3')).verified, true)
  })

  it('asks for undelete and reimage, and knows the image from the result', async () => {
    const uuid = await provision('web-4')
    await scheduler.api.post('/v1/vms/web-4/undelete', {})
    const undelete = await agent.nextCommand()
    assert.equal(undelete.claims.verb, 'vm.undelete')
    await done(undelete.claims, { vm: vmSummary({ name: 'web-4', uuid }) })
    const image = { url: 'https://images.example.org/b.qcow2', sha256: 'ab'.repeat(32), format: 'qcow2' }
    await scheduler.api.post('/v1/vms/web-4/reimage', { image, readyWithinMs: 1_000 })
    const { claims } = await agent.nextCommand()
    assert.deepEqual(
      [claims.verb, claims.arguments],
      ['vm.reimage', { vm: 'web-4', image, readyWithinMs: 1_000 }]
    )
    await done(claims, { vm: vmSummary({ name: 'web-4', uuid }), image, rootDisk: 'x' })
    assert.deepEqual((await scheduler.api.get<VmReply>('/v1/vms/web-4')).vm.image, image)
  })

  it('lets only admins erase backups', async () => {
    await provision('web-5')
    const { text } = await scheduler.api.post<CreatedKey>('/v1/keys', { tier: 'manage' })
    const manage = scheduler.apiWith(text)
    await assert.rejects(manage.delete('/v1/vms/web-5?backups=true'))
    await scheduler.api.delete('/v1/vms/web-5?backups=true')
    const { claims } = await agent.nextCommand()
    assert.deepEqual(claims.arguments, { vm: 'web-5', backups: true })
    assert.ok(readFileSync(scheduler.running.caFile).length > 0)
  })
})
