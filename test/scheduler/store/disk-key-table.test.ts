// Keys of disks in the store: kept as told, of a host's own VMs only, withheld where somebody says so, and gone from the file when destroyed.

import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, it } from 'node:test'
import type { EscrowedKey } from '../../../src/protocol/keys.ts'
import type { VmSummary } from '../../../src/protocol/vm.ts'
import {
  backupRecord,
  backupReport,
  escrowedKey,
  hostFacts,
  key1,
  key2,
  uuid1,
  uuid2,
  vmSummary
} from '../support/samples.ts'
import { TestStore, vmSpecification } from '../support/test-store.ts'

const wrapped = 'aG9zdA.a2V5.aXY.aG9zdC1jaXBoZXJ0ZXh0.dGFn'

describe('keys of disks in the store', () => {
  let test: TestStore
  let host: string
  beforeEach(async () => {
    test = new TestStore()
    host = await test.host('kvm-1')
  })
  afterEach(() => test[Symbol.asyncDispose]())

  const keep = (change: Partial<EscrowedKey> = {}, by = host, at = 20_000) =>
    test.store.diskKeys.keep(by, escrowedKey(change), at)
  const ids = async (filter: object = {}) =>
    (await test.store.diskKeys.list(filter, 10)).items.map(({ id }) => id)

  async function provision(name: string, uuid: string, on: string): Promise<void> {
    const specification = vmSpecification(name, uuid)
    const vm = { name, uuid, generation: 1 }
    await test.command(on, { verb: 'vm.provision', vm, intent: { kind: 'create', specification } })
  }

  const claim = (by: string, vm: Partial<VmSummary> = {}, at = 31_000) => {
    const inventory = { facts: hostFacts(by), vms: [vmSummary(vm)], foreign: [] }
    return test.store.hosts.inventory(by, { type: 'inventory', at, ...inventory }, at)
  }

  it('are there after a restart, as they were told last', async () => {
    assert.equal(await keep(), undefined)
    assert.equal(await keep({ host: { wrapped }, revision: 2 }, host, 21_000), undefined)
    assert.equal(await keep({ id: key2, volume: 'web-1-data.qcow2' }), undefined)
    test.openAgain()
    const { items, more } = await test.store.diskKeys.list({ uuid: uuid1 }, 1)
    assert.equal(more, true)
    assert.equal(items[0]?.id, key2)
    const [, root] = (await test.store.diskKeys.list({ host }, 10)).items
    assert.deepEqual([root?.id, root?.wrapped, root?.storedAt], [key1, { wrapped }, 21_000])
    assert.deepEqual(root?.recovery, escrowedKey().recovery)
    assert.deepEqual(await test.store.diskKeys.uuidsNamed('web-1'), [uuid1])
    assert.deepEqual(await ids({ host: 'nobody' }), [])
  })

  it('keep their recovery wrapping when a host tells of them without one', async () => {
    await keep()
    const { recovery: _none, ...bare } = escrowedKey({ host: { wrapped } })
    assert.equal(await test.store.diskKeys.keep(host, bare, 21_000), undefined)
    const [key] = (await test.store.diskKeys.list({}, 10)).items
    assert.deepEqual(key?.recovery, escrowedKey().recovery)
  })

  it('are told, destroyed and asked for by the host of their VM only', async () => {
    const other = await test.host('kvm-2')
    await provision('web-1', uuid1, host)
    await keep({ host: { wrapped } })
    assert.match((await keep({}, other)) ?? '', /another host/)
    assert.equal(await test.store.diskKeys.remove(other, { id: key1, uuid: uuid1 }, 30_000), false)
    const { granted, denied } = await test.store.diskKeys.grant(other, [key1], 30_000)
    assert.deepEqual([granted, denied], [[], [{ id: key1, reason: 'unknown' }]])
    assert.match((await keep({ uuid: uuid2 })) ?? '', /another VM/)
    assert.deepEqual(await ids(), [key1])
  })

  it('move to another host when theirs is revoked', async () => {
    const other = await test.host('kvm-2')
    await provision('web-1', uuid1, host)
    await keep({ host: { wrapped } })
    await test.store.hosts.revoke(host, 25_000)
    assert.equal(await keep({ host: { wrapped } }, other), undefined)
    assert.equal((await test.store.diskKeys.grant(other, [key1], 30_000)).granted.length, 1)
  })

  it('of a revoked host are destroyed for the host that has the VM now, and for no other', async () => {
    const [other, heir] = [await test.host('kvm-2'), await test.host('kvm-3')]
    await provision('web-1', uuid1, host)
    await keep()
    await keep({ id: key2, uuid: uuid2, vm: 'gone-1' })
    await test.store.hosts.revoke(host, 25_000)
    for (const uuid of [uuid1, uuid2])
      assert.equal(await test.store.diskKeys.remove(other, { uuid }, 30_000), false)
    assert.deepEqual((await ids()).sort(), [key1, key2])
    assert.deepEqual(await claim(heir), { adopted: ['web-1'], conflicting: [] })
    assert.equal(await test.store.diskKeys.remove(other, { uuid: uuid1 }, 32_000), false)
    // Also once the VM is gone here: its host may tell of that first.
    const vm = { name: 'web-1', uuid: uuid1, generation: 2 }
    const { id: command } = await test.command(heir, { verb: 'vm.teardown', vm })
    const result = { command, outcome: 'done', startedAt: 1, finishedAt: 1 } as const
    await test.store.commands.finished(heir, result, 1, 'forget', {})
    assert.equal(await test.store.vms.find('web-1'), undefined)
    assert.equal(await test.store.diskKeys.remove(other, { uuid: uuid1 }, 33_000), false)
    assert.equal(await test.store.diskKeys.remove(heir, { uuid: uuid1 }, 34_000), true)
    assert.deepEqual(await ids(), [key2])
  })

  it('do not end with a VM that a host only says it has, until it names them or is told to tear the VM down', async () => {
    const heir = await test.host('kvm-3')
    await provision('web-1', uuid1, host)
    await keep()
    await keep({ id: key2, volume: 'web-1-data.qcow2' })
    await test.store.hosts.revoke(host, 25_000)
    assert.deepEqual((await claim(heir)).adopted, ['web-1'])
    await test.store.diskKeys.remove(heir, { uuid: uuid1 }, 32_000)
    assert.deepEqual((await ids()).sort(), [key1, key2])
    await test.store.diskKeys.remove(heir, { uuid: uuid1, id: key2 }, 33_000)
    assert.deepEqual(await ids(), [key1])
    await test.command(heir, { verb: 'vm.teardown', vm: { name: 'web-1', uuid: uuid1, generation: 2 } })
    await test.store.diskKeys.remove(heir, { uuid: uuid1 }, 34_000)
    assert.deepEqual(await ids(), [])
  })

  it('do not move with a VM to a host that was there before the VM was made', async () => {
    const older = await test.host('kvm-0', 999)
    await provision('web-1', uuid1, host)
    await keep()
    await test.store.hosts.revoke(host, 25_000)
    assert.deepEqual(await claim(older), { adopted: [], conflicting: ['web-1'] })
    assert.equal((await test.store.vms.find('web-1'))?.host, host)
    assert.equal(await test.store.diskKeys.remove(older, { uuid: uuid1, id: key1 }, 32_000), false)
    // A person who knows better frees the name, and the next inventory tells.
    await test.store.vms.forget('web-1')
    assert.deepEqual((await claim(older)).adopted, ['web-1'])
    assert.deepEqual(await ids(), [key1])
  })

  it('of a VM that is not known here any more do not go to another host that says it has it', async () => {
    const other = await test.host('kvm-2')
    await keep()
    const conflict = { adopted: [], conflicting: ['web-1'] }
    assert.deepEqual(await claim(other), conflict)
    assert.equal(await test.store.diskKeys.remove(other, { uuid: uuid1 }, 32_000), false)
    assert.deepEqual(await ids(), [key1])
    const report = backupReport(randomUUID(), backupRecord(host, { uuid: uuid2, vm: 'db-1' }))
    await test.store.backups.learn(host, { kind: 'run', report }, 33_000)
    assert.deepEqual(await claim(other, { name: 'db-1', uuid: uuid2 }), {
      adopted: [],
      conflicting: ['db-1']
    })
    assert.deepEqual((await claim(host)).adopted, ['web-1'])
  })

  it('are given out until they are withheld, and again when they are released', async () => {
    await keep({ host: { wrapped } })
    await keep({ id: key2 })
    const { revision: _r, recovery: _w, ...granted } = escrowedKey({ host: { wrapped } })
    const nothing = { id: key2, reason: 'unknown' }
    assert.deepEqual(await test.store.diskKeys.grant(host, [key1, key2], 30_000), {
      granted: [granted],
      denied: [nothing]
    })
    const { items } = await test.store.diskKeys.list({}, 10)
    assert.equal(items.find(({ id }) => id === key1)?.grantedAt, 30_000)
    await test.store.diskKeys.hold(uuid1, { at: 31_000, by: 'key-1' })
    await test.store.diskKeys.hold(uuid1, { at: 32_000, by: 'key-2' })
    assert.deepEqual({ ...(await test.store.diskKeys.holdOf(uuid1)) }, { at: 31_000, by: 'key-1' })
    assert.deepEqual((await test.store.diskKeys.grant(host, [key1], 33_000)).denied, [
      { id: key1, reason: 'withheld' }
    ])
    await test.store.diskKeys.hold(uuid1, undefined)
    assert.deepEqual((await test.store.diskKeys.grant(host, [key1], 34_000)).granted, [granted])
  })

  it('leave nothing in the files when they are destroyed, and do not come back', async () => {
    await keep({ host: { wrapped } })
    await test.store.diskKeys.hold(uuid1, { at: 31_000, by: 'key-1' })
    const files = () =>
      ['scheduler.db', 'scheduler.db-wal', 'observed.db', 'observed.db-wal']
        .map((name) => readFileSync(join(test.directory, name)).toString('latin1'))
        .join('')
    const secrets = [wrapped, escrowedKey().recovery?.ciphertext ?? '']
    for (const secret of secrets) assert.ok(files().includes(secret))
    assert.equal(await test.store.diskKeys.remove(host, { id: key1, uuid: uuid1 }, 40_000), true)
    for (const secret of secrets) assert.ok(!files().includes(secret))
    assert.equal(await test.store.diskKeys.remove(host, { id: key1, uuid: uuid1 }, 41_000), true)
    assert.match((await keep({ host: { wrapped } })) ?? '', /destroyed/)
    assert.deepEqual(await ids(), [])
    const [key] = (await test.store.diskKeys.list({ removed: true }, 10)).items
    assert.deepEqual([key?.removedAt, key?.recovery, key?.wrapped], [40_000, undefined, undefined])
    assert.equal(await test.store.diskKeys.holdOf(uuid1), undefined)
    await test.store.prune(40_000 + 2_000_000)
    assert.deepEqual(await ids({ removed: true }), [])
  })
})
