// Erasing a VM on the hypervisor in memory: keys before volumes, the host's word on it, backups that stay or go, and crashes.

import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { macAddressOf } from '../../../src/agent/host/names.ts'
import { EscrowRecords } from '../../../src/agent/keys/escrow-records.ts'
import { AgentDatabase } from '../../../src/agent/operations/database.ts'
import { attemptsMax } from '../../../src/agent/operations/engine.ts'
import { encodeLease, ownProcess } from '../../../src/backup/repository/lease.ts'
import { HostletError } from '../../../src/errors.ts'
import { type BackupBench, backUp, source, target, vm, wait } from '../backups/bench.ts'
import { begin, carry, MemoryJournal, succeed } from '../verbs/bench.ts'
import { interposed } from '../verbs/interposed.ts'
import { anywhere, certified, keepKeys, makeLifeBench, recordOf, restarted, wrappedKeys } from './bench.ts'

describe('the erase certificate', () => {
  it('has the scheduler told of keys that were lost with the state directory', async () => {
    const directory = mkdtempSync(join(tmpdir(), 'hostlet-erase-'))
    using _removed = { [Symbol.dispose]: () => rmSync(directory, { recursive: true }) }
    using database = new AgentDatabase(join(directory, 'agent.db'))
    const escrow = new EscrowRecords({ database })
    await using host = await makeLifeBench({ encrypted: true, escrow })
    const { placement } = await recordOf(host)
    rmSync(join(host.bench.directory, 'state', 'keys'), { recursive: true })
    database.run('DELETE FROM disk_key_escrow')
    const { keys } = certified(host, await succeed(await restarted(host), 'vm.teardown', { vm }))
    assert.deepEqual(keys.map(({ id, outcome }) => [id, outcome]).sort(), [
      ...[placement.rootKey, placement.dataKey].sort().map((id) => [id, 'absent'])
    ])
    assert.deepEqual(escrow.goneToTell(10), [{ uuid: source }])
  })

  it('is signed by the host and says which keys and volumes are gone', async () => {
    await using host = await makeLifeBench({ encrypted: true })
    const { placement } = await recordOf(host)
    const value = await succeed(host.host, 'vm.teardown', { vm })
    const claims = certified(host, value)
    const { rootVolume, dataVolume, rootKey, dataKey } = placement
    assert.deepEqual([claims.vm, claims.uuid, claims.host], [vm, source, 'host-1'])
    assert.ok(claims.startedAt <= claims.finishedAt)
    const keys = claims.keys.map(({ id, volume, outcome }) => [id, volume, outcome]).sort()
    assert.deepEqual(
      keys,
      [
        [rootKey, rootVolume, 'destroyed'],
        [dataKey, dataVolume, 'destroyed']
      ].sort()
    )
    const volumes = claims.volumes.map(({ name, encrypted, outcome }) => [name, encrypted, outcome]).sort()
    assert.deepEqual(
      volumes,
      [
        [dataVolume, true, 'removed'],
        [rootVolume, true, 'removed']
      ].sort()
    )
    assert.deepEqual([...claims.escrow].sort(), [rootKey, dataKey].sort())
    assert.deepEqual(claims.backups, { asked: false, erased: [], remaining: [], unknown: [], notListed: 0 })
    assert.deepEqual(await host.bench.leftovers(), [])
  })

  it('says that volumes were not encrypted', async () => {
    await using host = await makeLifeBench()
    const claims = certified(host, await succeed(host.host, 'vm.teardown', { vm }))
    assert.deepEqual(claims.keys, [])
    assert.deepEqual(
      claims.volumes.map(({ encrypted, outcome }) => [encrypted, outcome]),
      [
        [false, 'removed'],
        [false, 'removed']
      ]
    )
  })

  it('says of a volume that it could not be removed, and why', async () => {
    await using host = await makeLifeBench()
    await keepKeys(host)
    host.bench.hypervisor.failNext('removeVolume', new HostletError('E_LIBVIRT', 'device is busy'))
    const value = await succeed(host.host, 'vm.teardown', { vm })
    const failed = certified(host, value).volumes.filter(({ outcome }) => outcome === 'failed')
    assert.equal(failed.length, 1)
    assert.match(failed[0]?.reason ?? '', /device is busy/)
    assert.deepEqual(value.remaining, [failed[0]?.name])
    assert.deepEqual(wrappedKeys(host), [])
  })

  it('names a key that was lost, and a volume that was not there', async () => {
    await using host = await makeLifeBench()
    const { specification, placement, generation } = await recordOf(host)
    const rootKey = randomUUID()
    const signal = AbortSignal.timeout(10_000)
    await host.bench.hypervisor.cutPower(vm, { signal })
    const sealed = {
      specification,
      placement: { ...placement, rootKey },
      generation,
      wanted: 'stopped'
    } as const
    await host.bench.hypervisor.define({ ...sealed, seedPath: null }, { signal })
    await host.bench.hypervisor.removeVolume(placement.rootVolume, { signal })
    const claims = certified(host, await succeed(host.host, 'vm.teardown', { vm }))
    assert.deepEqual(claims.keys, [{ id: rootKey, volume: placement.rootVolume, outcome: 'absent' }])
    assert.equal(claims.volumes.find(({ name }) => name === placement.rootVolume)?.outcome, 'absent')
  })
})

describe('keys', () => {
  it('are destroyed before any volume is removed, and their text is in no file afterwards', async () => {
    await using host = await makeLifeBench()
    await keepKeys(host)
    const texts = wrappedKeys(host)
    assert.equal(texts.length, 2)
    for (const text of texts) assert.equal(anywhere(host, text).length, 1)
    let keysAtFirstRemoval = -1
    const { hypervisor } = host.bench
    const watching = await restarted(
      host,
      watched(hypervisor, 'removeVolume', () => {
        if (keysAtFirstRemoval < 0) keysAtFirstRemoval = wrappedKeys(host).length
      })
    )
    await succeed(watching, 'vm.teardown', { vm })
    assert.equal(keysAtFirstRemoval, 0)
    for (const text of texts) assert.deepEqual(anywhere(host, text), [])
  })

  it('of a VM stay when its UUID is given with another name, and so does all else of it', async () => {
    await using host = await makeLifeBench()
    await keepKeys(host)
    const left = await host.bench.leftovers()
    const keys = wrappedKeys(host)
    const subject = { vm: 'web-9', uuid: source, generation: 99 }
    for (const backups of [false, true]) {
      const outcome = await carry(host.host, 'vm.teardown', { vm: 'web-9', backups }, { subject })
      assert.ok(outcome.outcome === 'failed')
      assert.equal(outcome.error.code, 'E_CONFLICT')
      assert.match(outcome.error.message, new RegExp(`${source} is VM ${vm}`))
    }
    assert.deepEqual(wrappedKeys(host), keys)
    assert.deepEqual(await host.bench.leftovers(), left)
    assert.equal((await recordOf(host)).state, 'running')
  })

  it('that cannot be destroyed keep every volume in its place', async () => {
    await using host = await makeLifeBench()
    await keepKeys(host)
    host.bench.hypervisor.failNext('removeSecret', new HostletError('E_LIBVIRT', 'no'))
    const outcome = await carry(host.host, 'vm.teardown', { vm })
    assert.equal(outcome.outcome === 'failed' && outcome.error.code, 'E_LIBVIRT')
    assert.equal((await host.bench.leftovers()).filter((line) => line.startsWith('volume')).length, 2)
    certified(host, await succeed(host.host, 'vm.teardown', { vm }))
    assert.deepEqual(await host.bench.leftovers(), [])
  })
})

describe('backups of a VM that is erased', () => {
  it('are named where they stay', async () => {
    await using host = await makeLifeBench()
    const { record } = await backUp(host)
    const { backups } = certified(host, await succeed(host.host, 'vm.teardown', { vm }))
    assert.deepEqual(backups.remaining, [{ target, snapshot: record.snapshot, at: record.at }])
    assert.deepEqual([backups.erased, backups.unknown], [[], []])
    assert.ok([...host.fleet.objects.keys()].some((name) => name.includes(source)))
  })

  it('are told from the host’s records where their repository cannot be asked', async () => {
    await using host = await makeLifeBench()
    const { record } = await backUp(host)
    host.store.before = () => {
      throw new HostletError('E_UNAVAILABLE', 'the mount is gone')
    }
    const { backups } = certified(host, await succeed(host.host, 'vm.teardown', { vm }))
    assert.deepEqual(
      backups.remaining.map(({ snapshot }) => snapshot),
      [record.snapshot]
    )
    assert.deepEqual(backups.unknown, [{ target, reason: 'the mount is gone' }])
  })

  it('go with it where that is asked for, and nothing of the VM is left in the repository', async () => {
    await using host = await makeLifeBench()
    const { record } = await backUp(host)
    const other = 'vms/22222222-6b53-4a3e-9d1c-0123456789ab/packs/aa'
    host.fleet.objects.set(other, { content: Buffer.from('of another VM'), modifiedAt: 0 })
    const { backups } = certified(host, await succeed(host.host, 'vm.teardown', { vm, backups: true }))
    assert.deepEqual([backups.asked, backups.remaining, backups.unknown], [true, [], []])
    assert.deepEqual(
      backups.erased.map(({ snapshot }) => snapshot),
      [record.snapshot]
    )
    assert.deepEqual(
      [...host.fleet.objects.keys()].filter((name) => name.includes(source)),
      []
    )
    assert.ok(host.fleet.objects.has(other))
  })

  it('stay where the VM is not defined on this host, whatever UUID is named', async () => {
    await using host = await makeLifeBench()
    const { record } = await backUp(host)
    await succeed(host.host, 'vm.teardown', { vm })
    const subject = { vm: 'ghost', uuid: source, generation: 99 }
    const refused = await carry(host.host, 'vm.teardown', { vm: 'ghost', backups: true }, { subject })
    assert.ok(refused.outcome === 'failed' && refused.error.code === 'E_NOT_FOUND', JSON.stringify(refused))
    assert.match(refused.error.message, new RegExp(`remove vms/${source}/`))
    const left = await host.host.backups.erasure.look(source, wait())
    assert.deepEqual(
      left.snapshots.map(({ snapshot }) => snapshot),
      [record.snapshot]
    )
    const { backups } = certified(host, await succeed(host.host, 'vm.teardown', { vm: 'ghost' }, { subject }))
    assert.deepEqual([backups.asked, backups.remaining.length], [false, 1])
  })

  it('stay, and no erase is attested, where the UUID or the name is that of a domain which is not ours', async () => {
    await using host = await makeLifeBench()
    const { record } = await backUp(host)
    await succeed(host.host, 'vm.teardown', { vm })
    const before = await host.bench.leftovers()
    for (const name of ['theirs', vm]) {
      host.bench.hypervisor.foreign.splice(0, 1, { name, uuid: source, state: 'running' })
      for (const backups of [true, false]) {
        const subject = { vm, uuid: source, generation: 99 }
        const outcome = await carry(host.host, 'vm.teardown', { vm, backups }, { subject })
        assert.ok(outcome.outcome === 'failed')
        assert.equal(outcome.error.code, 'E_CONFLICT')
        assert.match(outcome.error.message, /is not touched.*Nothing was removed/)
        assert.equal(outcome.error.details?.certificate, undefined)
      }
    }
    assert.deepEqual(await host.bench.leftovers(), before)
    assert.equal(host.bench.hypervisor.foreign.length, 1)
    const { snapshots } = await host.host.backups.erasure.look(source, wait())
    assert.deepEqual(
      snapshots.map(({ snapshot }) => snapshot),
      [record.snapshot]
    )
  })

  it('take the lock along that an agent left which was killed after the last of them', async () => {
    await using host = await makeLifeBench()
    await backUp(host)
    const lease = `vms/${source}/locks/22222222-6b53-4a3e-9d1c-0123456789ab`
    const left = encodeLease({
      phase: 'held',
      revision: 1,
      host: 'host-1',
      since: new Date(0).toISOString(),
      process: { ...ownProcess(), startTicks: '1' }
    })
    const { objects } = host.fleet
    for (const name of [...objects.keys()]) if (name.includes(source)) objects.delete(name)
    objects.set(lease, { content: left, modifiedAt: 0 })
    certified(host, await succeed(host.host, 'vm.teardown', { vm, backups: true }))
    assert.deepEqual(
      [...objects.keys()].filter((name) => name.includes(source)),
      []
    )
  })

  it('that could not be removed are told, not hidden', async () => {
    await using host = await makeLifeBench()
    await backUp(host)
    host.store.before = (call, name) => {
      if (call === 'remove' && name.includes('/packs/')) throw new HostletError('E_AUTH', 'not allowed')
    }
    const value = await succeed(host.host, 'vm.teardown', { vm, backups: true })
    const { backups } = certified(host, value)
    assert.deepEqual([backups.erased.length, backups.remaining.length], [0, 1])
    assert.match(backups.unknown[0]?.reason ?? '', /not allowed/)
    // Manifests, which hold the wrapped keys, went before the packs did not.
    assert.ok(![...host.fleet.objects.keys()].some((name) => name.includes('/snapshots/')))
  })
})

it('leaves its address to the VM that was restored of its backups, which has its MAC', async () => {
  await using host = await makeLifeBench()
  const { hypervisor } = host.bench
  await backUp(host)
  hypervisor.failNext('removeVolume', new HostletError('E_LIBVIRT', 'device is busy'))
  const first = await succeed(host.host, 'vm.teardown', { vm })
  assert.equal((first.remaining as string[]).length, 1)
  const as = { vm: 'web-1b', uuid: '7d5ec2a4-4e0c-4d0f-8a9b-2f1c6e0a9b11' }
  await succeed(host.host, 'vm.restore', { target, source, snapshot: 'latest', ...as })
  const restored = await hypervisor.findVm(as.vm, wait())
  assert.equal(restored?.placement.macAddress, macAddressOf(source))
  const reservations = () => hypervisor.listReservations('hl-net', wait())
  const before = await reservations()
  assert.deepEqual(
    before.map(({ macAddress }) => macAddress),
    [macAddressOf(source)]
  )
  const second = await succeed(host.host, 'vm.teardown', { vm })
  assert.deepEqual(second.removed, first.remaining)
  assert.deepEqual(await reservations(), before)
})

it('is never turned back once keys may be gone, however often it was begun, and says so where the rest fails', async () => {
  await using host = await makeLifeBench()
  const { rootKey, dataKey } = await keepKeys(host)
  const killed = new AbortController()
  const run = begin(host.host, 'vm.teardown', { vm }, { signal: killed.signal })
  const checkpoint = run.journal.checkpoint.bind(run.journal)
  run.journal.checkpoint = (id, step, notes) => {
    checkpoint(id, step, notes)
    if (wrappedKeys(host).length === 0) killed.abort(new Error('killed'))
  }
  assert.equal((await run.outcome).outcome, 'failed')
  const { entry } = run.journal
  run.journal.entry = { ...entry, attempts: attemptsMax }
  host.bench.hypervisor.failNext('undefine', new HostletError('E_LIBVIRT', 'the domain is busy'))
  const failed = await begin(await restarted(host), 'vm.teardown', { vm }, { from: run.journal }).outcome
  assert.ok(failed.outcome === 'failed' && failed.error.code === 'E_LIBVIRT', JSON.stringify(failed))
  assert.match(failed.error.message, /not undone: keys that it destroyed stay destroyed.*the domain is busy/)
  const again = new MemoryJournal(entry.claims)
  again.entry = { ...entry, attempts: attemptsMax }
  const end = await begin(await restarted(host), 'vm.teardown', { vm }, { from: again }).outcome
  assert.ok(end.outcome === 'done', JSON.stringify(end))
  assert.deepEqual(
    certified(host, end.value)
      .keys.map(({ id, outcome }) => [id, outcome])
      .sort(),
    [rootKey, dataKey].sort().map((id) => [id, 'destroyed'])
  )
  assert.deepEqual(await host.bench.leftovers(), [])
})

/** A few calls, others each time, unless all are asked for. */
const stride = process.env.HOSTLET_CRASH_POINTS === 'all' ? 1 : 5
const firstOf = (calls: number) => 1 + Math.floor(Math.random() * Math.min(stride, calls))

for (const backups of [false, true])
  it(`ends with a whole certificate after a crash at any call to the hypervisor, backups ${backups ? 'erased' : 'kept'}`, async () => {
    const calls = await killed(backups, { at: Number.POSITIVE_INFINITY, when: 'before' })
    assert.ok(calls >= 10, `${calls} calls`)
    for (let at = firstOf(calls); at <= calls; at += stride)
      await killed(backups, { at, when: at % 2 === 0 ? 'before' : 'after' })
  })

async function killed(
  backups: boolean,
  { at, when }: { at: number; when: 'before' | 'after' }
): Promise<number> {
  await using host = await makeLifeBench()
  const { rootKey, dataKey } = await keepKeys(host)
  if (backups) host.fleet.objects.set(`vms/${source}/packs/aa`, { content: Buffer.from('x'), modifiedAt: 0 })
  if (backups) host.fleet.objects.set('hostlet-repository.json', repositoryObject())
  let calls = 0
  let counting = false
  const dead = Promise.withResolvers<void>()
  const hypervisor = interposed(host.bench.hypervisor, async (call) => {
    if (!counting || ++calls < at) return await call()
    if (calls === at && when === 'after') await call()
    dead.resolve()
    return await new Promise(() => undefined)
  })
  const agent = await restarted(host, hypervisor)
  counting = true
  const run = begin(agent, 'vm.teardown', { vm, backups })
  await Promise.race([dead.promise, run.outcome])
  if (run.journal.entry.attempts === 0) return calls
  const about = `killed ${when} call ${at}`
  const end = at === Number.POSITIVE_INFINITY ? await run.outcome : await resumed(host, run.journal)
  assert.equal(end.outcome, 'done', `${about}: ${JSON.stringify(end)}`)
  const claims = certified(host, end.outcome === 'done' ? end.value : {})
  assert.deepEqual(
    claims.keys.map(({ id, outcome }) => [id, outcome]).sort(),
    [
      [rootKey, 'destroyed'],
      [dataKey, 'destroyed']
    ].sort(),
    about
  )
  assert.deepEqual(
    claims.volumes.map(({ outcome }) => outcome),
    ['removed', 'removed'],
    about
  )
  assert.deepEqual(await host.bench.leftovers(), [], about)
  assert.deepEqual(wrappedKeys(host), [], about)
  if (backups)
    assert.deepEqual(
      [...host.fleet.objects.keys()].filter((name) => name.includes(source)),
      [],
      about
    )
  return calls
}

async function resumed(host: BackupBench, from: ReturnType<typeof begin>['journal']) {
  // The lease of a killed agent ends by itself; that is the lock's own test.
  for (const name of [...host.fleet.objects.keys()])
    if (name.includes('/locks/')) host.fleet.objects.delete(name)
  return await begin(await restarted(host), 'vm.teardown', {}, { from }).outcome
}

function repositoryObject() {
  const id = '33333333-6b53-4a3e-9d1c-0123456789ab'
  return { content: Buffer.from(JSON.stringify({ format: 1, id })), modifiedAt: 0 }
}

function watched<Target extends object>(of: Target, method: keyof Target, look: () => void): Target {
  return new Proxy(of, {
    get: (on, key) => {
      const value = Reflect.get(on, key, on)
      if (typeof value !== 'function') return value
      return (...args: unknown[]) => {
        if (key === method) look()
        return Reflect.apply(value, on, args)
      }
    }
  })
}
