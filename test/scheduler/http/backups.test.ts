// Backups over the API: what hosts are asked, what is known of their answers, and who may ask.

import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { after, before, describe, it } from 'node:test'
import type {
  BackupList,
  BackupReply,
  BackupRunList,
  BackupScheduleView,
  CreatedKey,
  OperationReply,
  VmReply
} from '../../../src/protocol/api.ts'
import type { BackupRecord } from '../../../src/protocol/backup.ts'
import type { CommandClaims } from '../../../src/protocol/command.ts'
import { backupRecord, backupReport, specification, uuid1, uuid2, vmSummary } from '../support/samples.ts'
import type { TestAgent } from '../support/test-agent.ts'
import { TestScheduler } from '../support/test-scheduler.ts'

describe('backups over the API', { timeout: 60_000 }, () => {
  let scheduler: TestScheduler
  let agent: TestAgent
  let other: TestAgent
  /** Of web-1, as the scheduler chose it. */
  let web = ''

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
    web = claims.subject?.uuid ?? ''
    await done(agent, claims, { vm: vmSummary({ uuid: web }) })
  })
  after(() => scheduler[Symbol.asyncDispose]())

  async function done(
    by: TestAgent,
    claims: CommandClaims,
    value: Record<string, unknown> = {}
  ): Promise<void> {
    by.acknowledge(claims.id)
    by.finish(claims.id, value)
    await by.sync()
  }

  /** As its host tells it in the result of vm.backup. */
  async function backUp(record: BackupRecord): Promise<CommandClaims> {
    await scheduler.api.post('/v1/vms/web-1/backup', { target: record.target })
    const { claims } = await agent.nextCommand()
    await done(agent, claims, { record })
    return claims
  }

  const ofWeb = (change: Partial<BackupRecord> = {}) =>
    backupRecord(agent.id, { uuid: web, snapshot: randomUUID(), ...change })
  const show = async (id: string) => (await scheduler.api.get<BackupReply>(`/v1/backups/${id}`)).backup

  it('asks the host of a VM with a new generation, and knows the backup from its result', async () => {
    const record = ofWeb()
    const limits = { bytesPerSecond: 1_000_000 }
    const body = { target: 'main', disks: ['root'], quiesce: 'freeze', mode: 'full', limits }
    const { operation } = await scheduler.api.post<OperationReply>('/v1/vms/web-1/backup', body)
    const { claims } = await agent.nextCommand()
    assert.equal(claims.verb, 'vm.backup')
    assert.deepEqual(claims.arguments, { vm: 'web-1', ...body })
    assert.equal(claims.subject?.uuid, web)
    await done(agent, claims, { record })
    const backup = await show(record.snapshot)
    assert.deepEqual(backup, { ...record, operation: operation.id, origin: 'command' })
    const { backups } = await scheduler.api.get<BackupList>('/v1/backups?vm=web-1&target=main')
    assert.deepEqual(backups, [backup])
  })

  it('acknowledges reports, those of the VMs of others too, which it leaves aside', async () => {
    const record = ofWeb({ sequence: 2, at: 20_000 })
    const [mine, foreign] = [randomUUID(), randomUUID()]
    agent.send({
      type: 'backups',
      reports: [backupReport(mine, record, { finishedAt: Date.now(), nextAt: 99_000 })]
    })
    assert.deepEqual((await agent.next('backups-ack')).operations, [mine])
    const lie = backupRecord(other.id, { uuid: web, snapshot: randomUUID(), sequence: 99 })
    other.send({ type: 'backups', reports: [backupReport(foreign, lie)] })
    assert.deepEqual((await other.next('backups-ack')).operations, [foreign])
    assert.equal((await scheduler.api.failure({ path: `/v1/backups/${lie.snapshot}` })).code, 'E_NOT_FOUND')
    const view = await scheduler.api.get<BackupScheduleView>('/v1/vms/web-1/backup-schedule')
    assert.deepEqual([view.lastRun?.operation, view.lastRun?.nextAt], [mine, 99_000])
  })

  it('shows the bytes of an operation in progress', async () => {
    const { operation } = await scheduler.api.post<OperationReply>('/v1/vms/web-1/backup', { target: 'main' })
    const { claims } = await agent.nextCommand()
    agent.acknowledge(claims.id)
    const transfer = { doneBytes: 10, totalBytes: 100, bytesPerSecond: 5, remainingMs: 18_000 }
    const step = { step: 'copy', stepIndex: 1, steps: 3 }
    agent.send({ type: 'progress', command: claims.id, at: 1, ...step, transfer })
    await agent.sync()
    const seen = await scheduler.api.get<OperationReply>(`/v1/operations/${operation.id}`)
    assert.deepEqual(seen.operation.transfer, transfer)
    agent.fail(claims.id, { code: 'E_TIMEOUT', message: 'the repository was too slow' })
    await agent.sync()
    const view = await scheduler.api.get<BackupScheduleView>('/v1/vms/web-1/backup-schedule')
    assert.equal(view.lastRun?.error?.code, 'E_TIMEOUT')
    const failed = await scheduler.api.get<BackupRunList>('/v1/backup-runs?vm=web-1&failed=true')
    assert.deepEqual(
      failed.runs.map(({ operation: id, vm, host, error }) => [id, vm, host, error?.code]),
      [[operation.id, 'web-1', agent.id, 'E_TIMEOUT']]
    )
    const all = await scheduler.api.get<BackupRunList>('/v1/backup-runs?vm=web-1')
    assert.ok(all.runs.some(({ snapshot, error }) => snapshot !== undefined && error === undefined))
    assert.equal((await scheduler.api.get<BackupRunList>('/v1/backup-runs?target=nowhere')).runs.length, 0)
  })

  it('tells the host the newest backup that is known, and keeps what it found', async () => {
    const record = ofWeb({ sequence: 3, at: 30_000 })
    await backUp(record)
    const older = ofWeb({ sequence: 2, at: 29_000, target: 'far' })
    await backUp(older)
    await scheduler.api.post(`/v1/backups/${older.snapshot}/verify`, { boot: true, host: other.id })
    const { claims } = await other.nextCommand()
    assert.deepEqual(claims.arguments, {
      ...{ target: 'far', source: web, snapshot: older.snapshot, boot: true, expected: older.snapshot }
    })
    assert.equal(claims.subject, undefined)
    const verification = {
      at: 1,
      outcome: 'bad',
      booted: false,
      freshness: 'known',
      fault: 'a pack is missing'
    }
    const result = {
      snapshot: older.snapshot,
      source: web,
      verification,
      blocks: 1,
      readBytes: 1,
      faults: []
    }
    await done(other, claims, result)
    assert.deepEqual((await show(older.snapshot)).verification, verification)
  })

  it('does not believe a result about other backups than it was asked for', async () => {
    const record = ofWeb({ sequence: 4, at: 40_000 })
    await backUp(record)
    await scheduler.api.post('/v1/backups/prune', {
      source: uuid2,
      target: 'main',
      keep: { last: 1 },
      host: other.id
    })
    const { claims } = await other.nextCommand()
    await done(other, claims, { kept: [], removed: [record.snapshot], freedBytes: 0, dryRun: false })
    assert.equal((await show(record.snapshot)).removedAt, undefined)
  })

  it('ends an operation whose result tells of backups in another form', async () => {
    const { operation } = await scheduler.api.post<OperationReply>('/v1/vms/web-1/backup', { target: 'main' })
    const { claims } = await agent.nextCommand()
    await done(agent, claims, { record: 'nonsense' })
    const seen = await scheduler.api.get<OperationReply>(`/v1/operations/${operation.id}`)
    assert.equal(seen.operation.state, 'done')
  })

  it('marks what was pruned, and a dry run marks nothing', async () => {
    const record = ofWeb({ sequence: 5, at: 50_000 })
    await backUp(record)
    const gone = { kept: [], removed: [record.snapshot], freedBytes: 1 }
    for (const dryRun of [true, false]) {
      const keep = { daily: 7 }
      await scheduler.api.post('/v1/backups/prune', { source: 'web-1', target: 'main', keep, dryRun })
      const { claims } = await agent.nextCommand()
      assert.deepEqual(claims.arguments, { target: 'main', source: web, keep, dryRun })
      await done(agent, claims, { ...gone, dryRun })
      assert.equal((await show(record.snapshot)).removedAt !== undefined, !dryRun)
    }
    const refused = await scheduler.api.failure({
      ...{ method: 'POST', path: '/v1/restores' },
      json: { source: 'web-1', snapshot: record.snapshot, name: 'web-9' }
    })
    assert.deepEqual([refused.status, refused.code], [404, 'E_NOT_FOUND'])
    assert.match(refused.message, /was removed at/)
  })

  it('keeps a schedule as set, and needs an admin for one that removes backups', async () => {
    const path = '/v1/vms/web-1/backup-schedule'
    const schedule = { target: 'main', everyMs: 3_600_000, keep: { daily: 7 } }
    const { text: key } = await scheduler.api.post<CreatedKey>('/v1/keys', { tier: 'manage' })
    const low = await scheduler.apiWith(key).failure({ method: 'PUT', path, json: schedule })
    assert.deepEqual([low.status, low.details], [403, { reason: 'low-tier' }])
    const both = { target: 'main', everyMs: 60_000, cron: '0 1 * * *' }
    for (const json of [both, { target: 'main' }])
      assert.equal((await scheduler.api.failure({ method: 'PUT', path, json })).code, 'E_BAD_REQUEST')
    await scheduler.api.ask({ method: 'PUT', path, json: schedule })
    const { claims } = await agent.nextCommand()
    assert.deepEqual([claims.verb, claims.arguments], ['vm.backup-schedule', { vm: 'web-1', schedule }])
    assert.equal((await scheduler.api.get<BackupScheduleView>(path)).schedule, null)
    await done(agent, claims)
    assert.deepEqual((await scheduler.api.get<BackupScheduleView>(path)).schedule, schedule)
    await scheduler.api.delete(path)
    const off = (await agent.nextCommand()).claims
    assert.deepEqual(off.arguments, { vm: 'web-1', schedule: null })
    await done(agent, off)
    assert.equal((await scheduler.api.get<BackupScheduleView>(path)).schedule, null)
  })

  it('exports for admins only', async () => {
    const record = ofWeb({ sequence: 6, at: 60_000 })
    await backUp(record)
    const body = { disk: 'root', format: 'raw', path: '/srv/export/web.raw' }
    await scheduler.api.post(`/v1/backups/${record.snapshot}/export`, body)
    const { claims } = await agent.nextCommand()
    assert.deepEqual(claims.arguments, { target: 'main', source: web, snapshot: record.snapshot, ...body })
    await done(agent, claims)
  })

  it('learns what lies in a repository from a host that lists it', async () => {
    const record = ofWeb({ sequence: 7, at: 70_000, target: 'found' })
    await scheduler.api.post(`/v1/hosts/${agent.id}/backups`, { target: 'found' })
    const { claims } = await agent.nextCommand()
    await done(agent, claims, { snapshots: [record], damaged: [], locked: [] })
    assert.deepEqual(await show(record.snapshot), record)
  })

  describe('restores', () => {
    it('make a VM of another name on the host with the repository, once for one Idempotency-Key', async () => {
      const headers = { 'idempotency-key': 'restore-1' }
      const body = { source: 'web-1', target: 'main', name: 'web-2' }
      const ask = () => scheduler.api.post<OperationReply>('/v1/restores', body, { headers })
      const [first, again] = [await ask(), await ask()]
      assert.equal(first.operation.id, again.operation.id)
      const { claims } = await agent.nextCommand()
      assert.equal(claims.verb, 'vm.restore')
      const { uuid, expected, ...rest } = claims.arguments
      assert.deepEqual(rest, { target: 'main', source: web, snapshot: 'latest', vm: 'web-2' })
      assert.deepEqual(claims.subject, { vm: 'web-2', uuid: String(uuid), generation: 1 })
      assert.notEqual(uuid, web)
      assert.equal((await show(String(expected))).sequence, 6)
      const made = await scheduler.api.get<VmReply>('/v1/vms/web-2')
      assert.deepEqual([made.vm.state, made.vm.memoryBytes], ['pending', 256 * 1024 ** 2])
      await done(agent, claims, { vm: vmSummary({ name: 'web-2', uuid: String(uuid), cpus: 3 }) })
      const { vm } = await scheduler.api.get<VmReply>('/v1/vms/web-2')
      assert.deepEqual([vm.state, vm.cpus, vm.host], ['running', 3, agent.id])
    })

    it('leave no VM when they fail, and leave the one that was there', async () => {
      await scheduler.api.post('/v1/restores', { source: 'web-1', target: 'main', name: 'web-3' })
      const made = (await agent.nextCommand()).claims
      agent.fail(made.id, { code: 'E_CORRUPT', message: 'a pack is damaged' })
      await agent.sync()
      assert.equal((await scheduler.api.failure({ path: '/v1/vms/web-3' })).code, 'E_NOT_FOUND')
      await scheduler.api.post('/v1/restores', {
        source: 'web-1',
        target: 'main',
        replace: true,
        start: false
      })
      const { claims } = await agent.nextCommand()
      assert.deepEqual(
        [claims.subject?.uuid, claims.arguments.uuid, claims.arguments.replace, claims.arguments.start],
        [web, web, true, false]
      )
      agent.sendInventory()
      agent.fail(claims.id, { code: 'E_CORRUPT', message: 'a pack is damaged' })
      await agent.sync()
      const { vm } = await scheduler.api.get<VmReply>('/v1/vms/web-1')
      assert.deepEqual([vm.state, vm.wanted], ['missing', 'stopped'])
    })

    it('work for a VM that nobody here knows, and stay through an inventory that does not show them yet', async () => {
      const body = { source: uuid1, target: 'main', name: 'old-1', host: other.id, start: false }
      await scheduler.api.post('/v1/restores', body)
      const { claims } = await other.nextCommand()
      assert.deepEqual([claims.arguments.source, claims.arguments.expected], [uuid1, undefined])
      other.acknowledge(claims.id)
      other.sendInventory()
      await other.sync()
      const { vm } = await scheduler.api.get<VmReply>('/v1/vms/old-1')
      assert.deepEqual([vm.state, vm.host, vm.wanted], ['pending', other.id, 'stopped'])
      other.finish(claims.id, {
        vm: vmSummary({ name: 'old-1', uuid: String(claims.arguments.uuid), state: 'stopped' })
      })
      await other.sync()
      assert.equal((await scheduler.api.get<VmReply>('/v1/vms/old-1')).vm.memoryBytes, 256 * 1024 ** 2)
    })

    it('are refused, with what to say instead', async () => {
      const cases: readonly [Record<string, unknown>, string, RegExp][] = [
        [
          { source: 'web-1' },
          'E_BAD_REQUEST',
          /several repositories: name one as target \(far, found, main\)/
        ],
        [{ source: 'web-1', target: 'main' }, 'E_CONFLICT', /a VM named web-1 exists already/],
        [{ source: 'nobody' }, 'E_NOT_FOUND', /no backup of a VM nobody/],
        [{ source: uuid2 }, 'E_BAD_REQUEST', /name the repository to look in/],
        [{ source: uuid2, target: 'main' }, 'E_BAD_REQUEST', /give a name/],
        [{ source: 'web-1', target: 'main', name: 'gone', replace: true }, 'E_NOT_FOUND', /no VM gone/],
        [{ source: 'web-1', target: 'main', replace: true, host: 'kvm-9' }, 'E_CONFLICT', /where it is/],
        [{ source: 'web-1', target: 'main', name: 'x1', host: 'nobody' }, 'E_NOT_FOUND', /not enrolled/]
      ]
      for (const [json, code, expected] of cases) {
        const refused = await scheduler.api.failure({ method: 'POST', path: '/v1/restores', json })
        assert.equal(refused.code, code, JSON.stringify(json))
        assert.match(refused.message, expected)
      }
    })
  })

  describe('cancelling', () => {
    it('ends at once what its host has not got, and asks the host about the rest', async () => {
      const { operation } = await scheduler.api.post<OperationReply>('/v1/vms/web-1/backup', {
        target: 'main'
      })
      const { claims } = await agent.nextCommand()
      const path = `/v1/operations/${operation.id}/cancel`
      const asked = await scheduler.api.post<OperationReply>(path)
      const cancel = (await agent.nextCommand()).claims
      assert.equal(cancel.id, asked.operation.id)
      assert.deepEqual([cancel.verb, cancel.arguments], ['operation.cancel', { operation: operation.id }])
      await done(agent, cancel, { operation: operation.id, state: 'cancelling' })
      await done(agent, claims, {})
      assert.equal((await scheduler.api.failure({ method: 'POST', path, json: {} })).code, 'E_CONFLICT')
      await agent.disconnect()
      const late = await scheduler.api.post<OperationReply>('/v1/restores', {
        ...{ source: 'web-1', target: 'main', name: 'web-7', host: agent.id }
      })
      const ended = await scheduler.api.post<OperationReply>(`/v1/operations/${late.operation.id}/cancel`)
      assert.deepEqual(
        [ended.operation.id, ended.operation.state, ended.operation.error?.code],
        [late.operation.id, 'failed', 'E_CANCELLED']
      )
      assert.equal((await scheduler.api.failure({ path: '/v1/vms/web-7' })).code, 'E_NOT_FOUND')
    })
  })
})
