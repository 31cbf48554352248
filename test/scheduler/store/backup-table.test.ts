// Backups in the store: what hosts tell counts once, stays when the VM is gone, and only of their own VMs.

import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { afterEach, beforeEach, describe, it } from 'node:test'
import type { BackupReport, Verification } from '../../../src/protocol/backup.ts'
import { backupRecord, backupReport, snapshot1, snapshot2, uuid1, uuid2 } from '../support/samples.ts'
import { TestStore, vmSpecification } from '../support/test-store.ts'

describe('backups in the store', () => {
  let test: TestStore
  let host: string
  beforeEach(async () => {
    test = new TestStore()
    host = await test.host('kvm-1')
  })
  afterEach(() => test[Symbol.asyncDispose]())

  const run = (report: BackupReport, by = host, at = 20_000) =>
    test.store.backups.learn(by, { kind: 'run', report }, at)
  const second = () =>
    backupRecord(host, { snapshot: snapshot2, sequence: 2, previous: snapshot1, at: 11_000 })

  async function provision(name: string, uuid: string, on: string): Promise<void> {
    const specification = vmSpecification(name, uuid)
    const vm = { name, uuid, generation: 1 }
    await test.command(on, { verb: 'vm.provision', vm, intent: { kind: 'create', specification } })
  }

  it('are listed newest first, once however often they are told, also after a restart', async () => {
    const report = backupReport(randomUUID(), backupRecord(host))
    assert.equal(await run(report), true)
    assert.equal(await run({ ...report, nextAt: 99_000 }), true)
    assert.equal(await run(backupReport(randomUUID(), second())), true)
    const { backups } = test.openAgain()
    const { items } = await backups.list({}, 10)
    assert.deepEqual(
      items.map(({ record, origin }) => [record.snapshot, origin]),
      [
        [snapshot2, 'schedule'],
        [snapshot1, 'schedule']
      ]
    )
    assert.equal((await backups.newest(uuid1, 'main'))?.record.snapshot, snapshot2)
    assert.deepEqual(await backups.list({}, 1), { items: [items[0]], more: true })
  })

  it('are found by name, UUID, host and repository', async () => {
    await run(backupReport(randomUUID(), backupRecord(host)))
    await run(backupReport(randomUUID(), { ...second(), uuid: uuid2, vm: 'db-1', target: 'far' }))
    const found = async (filter: object) =>
      (await test.store.backups.list(filter, 10)).items.map(({ record }) => record.vm)
    assert.deepEqual(await found({ vm: 'web-1' }), ['web-1'])
    assert.deepEqual(await found({ vm: uuid2 }), ['db-1'])
    assert.deepEqual(await found({ target: 'far' }), ['db-1'])
    assert.deepEqual(await found({ host: 'nobody' }), [])
    assert.deepEqual(await test.store.backups.sourcesNamed('db-1'), [uuid2])
    assert.deepEqual(await test.store.backups.targetsOf(uuid2), ['far'])
    assert.deepEqual([...(await test.store.backups.hostsOf('main'))], [host])
  })

  it('outlive their VM, with what it was', async () => {
    await provision('web-1', uuid1, host)
    await run(backupReport(randomUUID(), backupRecord(host)))
    const vm = { name: 'web-1', uuid: uuid1, generation: 2 }
    const teardown = await test.command(host, { verb: 'vm.teardown', vm })
    const result = { command: teardown.id, outcome: 'done', startedAt: 1, finishedAt: 1 } as const
    await test.store.commands.finished(host, result, 1, 'forget', {})
    assert.equal(await test.store.vms.find('web-1'), undefined)
    assert.equal((await test.store.backups.newest(uuid1, 'main'))?.record.snapshot, snapshot1)
    const was = await test.store.backups.specificationOf(uuid1)
    assert.equal(was?.memoryBytes, 256 * 1024 ** 2)
    assert.equal(JSON.stringify(was).includes('hunter2'), false)
  })

  it('are told by the host of the VM only', async () => {
    const other = await test.host('kvm-2')
    await provision('web-1', uuid1, host)
    assert.equal(await run(backupReport(randomUUID(), backupRecord(other, { sequence: 9 })), other), false)
    assert.equal(await run(backupReport(randomUUID(), backupRecord(host)), other), false)
    assert.deepEqual((await test.store.backups.list({}, 10)).items, [])
    await test.store.hosts.revoke(host, 5)
    assert.equal(await run(backupReport(randomUUID(), backupRecord(other)), other), true)
  })

  it('stay removed, and removal is that of the named source and repository', async () => {
    const report = backupReport(randomUUID(), backupRecord(host))
    await run(report)
    const { backups } = test.store
    const removal = { kind: 'removed', source: uuid1, target: 'main', snapshots: [snapshot1] } as const
    await backups.learn(host, { ...removal, source: uuid2 }, 30_000)
    await backups.learn(host, { ...removal, target: 'far' }, 30_000)
    assert.equal((await backups.find(snapshot1))?.removedAt, undefined)
    await backups.learn(host, removal, 31_000)
    await run(report)
    assert.equal((await backups.find(snapshot1))?.removedAt, 31_000)
    assert.deepEqual((await backups.list({}, 10)).items, [])
    assert.equal((await backups.list({ removed: true }, 10)).items.length, 1)
    assert.equal(await backups.newest(uuid1, 'main'), undefined)
  })

  it('are removed by the retention of a schedule, and removed ones are forgotten in time', async () => {
    await run(backupReport(randomUUID(), backupRecord(host)))
    await run(backupReport(randomUUID(), second(), { removed: [snapshot1] }), host, 40_000)
    assert.equal((await test.store.backups.find(snapshot1))?.removedAt, 40_000)
    await test.store.prune(40_000 + 1_000_001)
    assert.equal(await test.store.backups.find(snapshot1), undefined)
    assert.notEqual(await test.store.backups.find(snapshot2), undefined)
  })

  it('of the VM of a revoked host are not ended by a host that does not have it', async () => {
    const other = await test.host('kvm-2')
    await provision('web-1', uuid1, host)
    await run(backupReport(randomUUID(), backupRecord(host)))
    await test.store.hosts.revoke(host, 5)
    const claim = backupRecord(other, { snapshot: snapshot2, sequence: 2, previous: snapshot1, at: 11_000 })
    for (const _try of [1, 2])
      await run(backupReport(randomUUID(), claim, { removed: [snapshot1] }), other, 40_000)
    assert.equal((await test.store.backups.find(snapshot1))?.removedAt, undefined)
  })

  it('keep what the newest look found, whatever comes late', async () => {
    await run(backupReport(randomUUID(), backupRecord(host)))
    const look = (at: number, outcome: 'good' | 'bad'): Verification => ({
      ...{ at, outcome, booted: false },
      freshness: 'known'
    })
    const tell = (source: string, verification: Verification) =>
      test.store.backups.learn(host, { kind: 'verified', source, snapshot: snapshot1, verification }, 50_000)
    await tell(uuid1, look(2_000, 'bad'))
    await tell(uuid1, look(1_000, 'good'))
    await tell(uuid2, look(3_000, 'good'))
    assert.deepEqual((await test.store.backups.find(snapshot1))?.verification, look(2_000, 'bad'))
  })

  it('have a last run, also a failed one, and a schedule that goes with the VM', async () => {
    await provision('web-1', uuid1, host)
    await run(backupReport(randomUUID(), backupRecord(host)))
    const id = randomUUID()
    const { record: _none, ...failed } = backupReport(id, second(), {
      nextAt: 70_000,
      error: { code: 'E_CAPACITY', message: 'the repository is full' }
    })
    await run(failed)
    const last = await test.store.backups.lastRun(uuid1)
    assert.deepEqual([last?.operation, last?.error?.code, last?.nextAt], [id, 'E_CAPACITY', 70_000])
    const schedule = { target: 'main', everyMs: 3_600_000 }
    await test.store.backups.learn(host, { kind: 'schedule', uuid: uuid1, schedule }, 1)
    assert.deepEqual(await test.store.backups.scheduleOf(uuid1), schedule)
    await test.store.backups.learn(host, { kind: 'schedule', uuid: uuid1, schedule: null }, 2)
    assert.equal(await test.store.backups.scheduleOf(uuid1), undefined)
  })
})
