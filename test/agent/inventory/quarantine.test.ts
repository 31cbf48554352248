// What a quarantined domain has is given to no VM, stands on images that stay, and is not torn down; VMs without a past are told.

import assert from 'node:assert/strict'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { memoryPool } from '../../../src/agent/host/memory-inventory.ts'
import { metadataOf } from '../../../src/agent/host/metadata.ts'
import { KnownVms } from '../../../src/agent/inventory/known-vms.ts'
import { Journal } from '../../../src/agent/operations/journal.ts'
import { FakeClock } from '../../support/fake-clock.ts'
import { type Bench, carry, makeBench, succeed } from '../verbs/bench.ts'

const vm = { name: 'web-1', uuid: '0b54e6f2-6b53-4a3e-9d1c-000000000001' }
const next = { name: 'web-2', uuid: '0b54e6f2-6b53-4a3e-9d1c-000000000002' }
const wait = () => ({ signal: AbortSignal.timeout(30_000) })

describe('a quarantined domain', () => {
  it('keeps its user and its address: the next VM gets others', async () => {
    await using bench = await quarantined()
    const { placement } = bench.was
    await succeed(bench.host, 'vm.provision', { specification: bench.specification(next) })
    const given = (await bench.hypervisor.findVm(next.name, wait()))?.placement
    assert.ok(given)
    assert.notEqual(given.uid, placement.uid)
    assert.notEqual(given.address, placement.address)
  })

  it('is not torn down with the VM that it was', async () => {
    await using bench = await quarantined()
    const { rootVolume } = bench.was.placement
    await bench.hypervisor.createVolume({ name: rootVolume, capacityBytes: 1024 ** 2 }, wait())
    const outcome = await carry(
      bench.host,
      'vm.teardown',
      { vm: vm.name },
      { subject: { vm: vm.name, uuid: vm.uuid, generation: 1_000_000 } }
    )
    assert.equal(outcome.outcome === 'failed' && outcome.error.code, 'E_CONFLICT')
    assert.match(
      outcome.outcome === 'failed' ? outcome.error.message : '',
      /is not touched, since it is VM web-1 under another name/
    )
    assert.notEqual(await bench.hypervisor.findVolume(rootVolume, wait()), undefined)
  })
})

describe('VMs that are there without a record of them', () => {
  it('are told once, with those that had commands left out, until a good backup or a week later', async () => {
    const directory = await mkdtemp(join(tmpdir(), 'hostlet-known-'))
    const clock = new FakeClock()
    try {
      using journal = new Journal(join(directory, 'agent.db'), { clock })
      const known = new KnownVms({ database: journal.database, clock })
      const since = clock.now()
      journal.accept(
        {
          id: '0b54e6f2-6b53-4a3e-9d1c-00000000000a',
          verb: 'vm.start',
          audience: 'host-1',
          issuedAt: since,
          expiresAt: since + 1_000,
          arguments: {},
          subject: { vm: next.name, uuid: next.uuid, generation: 3 }
        },
        'digest'
      )
      assert.deepEqual(known.note([vm, next]), [vm])
      assert.deepEqual(known.note([vm, next]), [])
      assert.deepEqual(known.adoptedSince(since), [vm])
      assert.deepEqual(known.adoptedSince(since + 1), [])
      assert.deepEqual(
        known
          .all()
          .map(({ name }) => name)
          .toSorted(),
        [vm.name, next.name]
      )
      journal.database.run(
        "INSERT INTO backup_good (uuid, target, snapshot, sequence, at) VALUES (?, 'vault', 's', 1, 1)",
        vm.uuid
      )
      assert.deepEqual(known.adoptedSince(since), [])
    } finally {
      await rm(directory, { recursive: true, force: true })
    }
  })
})

/** A VM that somebody renamed while it was off. */
async function quarantined() {
  const bench: Bench = await makeBench()
  await bench.host.prepare()
  await succeed(bench.host, 'vm.provision', { specification: bench.specification(vm) })
  const record = await bench.hypervisor.findVm(vm.name, wait())
  assert.ok(record)
  const { network, macAddress } = record.placement
  await bench.hypervisor.removeReservation(network, macAddress, wait())
  await bench.hypervisor.undefine(vm.name, wait())
  bench.hypervisor.forgetLeases()
  bench.hypervisor.inventory.planted.push({
    name: 'renamed',
    uuid: vm.uuid,
    metadata: metadataOf({ ...record, seedPath: null }, memoryPool)
  })
  return Object.assign(bench, { was: record })
}
