// vm.restore, backup.verify, backup.export and backup.prune on the hypervisor in memory: bytes come back, or nothing is left.

import assert from 'node:assert/strict'
import { mkdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { HostletError } from '../../../src/errors.ts'
import type { BackupListResult, BackupVerifyResult, PruneResult } from '../../../src/protocol/backup.ts'
import { planned } from '../plans/planned.ts'
import { carry, succeed } from '../verbs/bench.ts'
import {
  type BackupBench,
  backUp,
  failure,
  makeBackupBench,
  makeFleet,
  source,
  target,
  vm,
  wait
} from './bench.ts'

const uuid = '11111111-6b53-4a3e-9d1c-0123456789ab'
const name = 'web-1-restored'
const asNew = { target, source, snapshot: 'latest', vm: name, uuid }
const inPlace = { target, source, snapshot: 'latest', vm, uuid: source, replace: true }

describe('vm.restore', () => {
  it('makes a VM of another name beside the source, byte for byte, which runs', async () => {
    await using host = await makeBackupBench()
    const { record } = await backUp(host)
    const [root, data] = [host.content(), host.content('data')]
    host.write([1, 9], 0x77)
    const value = await succeed(host.host, 'vm.restore', asNew)
    assert.deepEqual([value.snapshot, value.freshness, value.notRestored], [record.snapshot, 'known', []])
    assert.ok(host.content('root', name).equals(root))
    assert.ok(host.content('data', name).equals(data))
    const made = await host.bench.hypervisor.findVm(name, wait())
    assert.deepEqual(
      [made?.state, made?.wanted, made?.placement.rootStandsAlone],
      ['running', 'running', true]
    )
    const before = await host.bench.hypervisor.findVm(vm, wait())
    assert.notEqual(made?.placement.macAddress, before?.placement.macAddress)
    assert.equal((await backUp(host, { vm: name })).record.sequence, 1)
  })

  it('is foreseen, as are backups: what would be made or replaced, and nothing is touched', async () => {
    await using host = await makeBackupBench()
    const { record } = await backUp(host)
    const { bench, host: on } = host
    const state = async () => [await bench.leftovers(), await bench.hypervisor.listVms(wait())]
    const before = await state()
    const about = { vm: name, uuid }
    const fresh = await planned(on, 'vm.restore', asNew, { about })
    assert.equal(fresh.refusal, undefined)
    assert.match(fresh.remarks?.[0] ?? '', new RegExp(`^Backup ${record.snapshot} is of .* \\(known\\)`))
    assert.ok(fresh.domain?.after?.includes(`${name}.11111111.root.qcow2`))
    const replaced = await planned(on, 'vm.restore', inPlace, { about: { vm, uuid: source } })
    const sources = (replaced.domain?.diff ?? '')
      .split('\n')
      .filter((line) => /^[-+] .*<source file/.test(line))
    // Each disk as it is and as it would be; the base below the root disk goes.
    assert.equal(sources.length, 5, sources.join('\n'))
    const again = await planned(on, 'vm.backup', { vm, target }, { about: { vm, uuid: source } })
    assert.match(again.remarks?.[1] ?? '', /Only what changed since backup/)
    assert.deepEqual(await state(), before)
  })

  it('puts no larger disks into a VM than the policy allows, and lets those be that do not grow', async () => {
    await using host = await makeBackupBench()
    await backUp(host)
    const small = { vm: 'small-1', uuid }
    const specification = host.bench.specification({
      ...{ name: small.vm, uuid, rootDiskBytes: 1024 ** 2, dataDiskBytes: 1024 ** 2 }
    })
    await succeed(host.host, 'vm.provision', { specification })
    const diskBytesMax = 2 * 1024 ** 2
    host.policy({ commands: { limits: { vm: { diskBytesMax } } } })
    const before = await host.bench.leftovers()
    const refused = await failure(host.host, 'vm.restore', { ...inPlace, ...small })
    assert.equal(refused.code, 'E_AUTH')
    assert.match(
      refused.message,
      /does not allow VM small-1: .*3145728 bytes of disk, the policy allows 2097152/
    )
    assert.deepEqual(await host.bench.leftovers(), before)
    const record = await host.bench.hypervisor.findVm(small.vm, wait())
    assert.deepEqual([record?.state, record?.specification.dataDiskBytes], ['running', 1024 ** 2])
    // As large as it is already, beyond the bound.
    await succeed(host.host, 'vm.restore', inPlace)
    host.policy({ commands: { limits: { host: { diskBytesMax: 5 * 1024 ** 2 } } } })
    const all = await failure(host.host, 'vm.restore', { ...inPlace, ...small })
    assert.match(all.message, /the VMs of the host would have 6291456 bytes of disk/)
  })

  it('restores any snapshot, not only the newest', async () => {
    await using host = await makeBackupBench()
    const contents = new Map<string, Buffer>()
    for (let round = 0; round < 3; round++) {
      host.write([round, 10], 0x50 + round)
      contents.set((await backUp(host)).record.snapshot, host.content())
    }
    for (const [snapshot, content] of contents) {
      await succeed(host.host, 'vm.restore', { ...asNew, snapshot, start: false })
      assert.ok(host.content('root', name).equals(content), snapshot)
      assert.equal((await host.bench.hypervisor.findVm(name, wait()))?.state, 'stopped')
      const subject = { vm: name, uuid, generation: 1_000_000 }
      await succeed(host.host, 'vm.teardown', { vm: name }, { subject })
    }
  })

  it('on another host with an empty state directory needs the recovery key only', async () => {
    const fleet = await makeFleet()
    await using gone = await makeBackupBench({ fleet })
    await backUp(gone)
    const mac = (await gone.bench.hypervisor.findVm(vm, wait()))?.placement.macAddress
    await using other = await makeBackupBench({ fleet, hostId: 'host-2', provision: false })
    assert.equal((await failure(other.host, 'vm.restore', asNew)).code, 'E_AUTH')
    const file = `${other.policyPath}.jwk`
    writeFileSync(file, JSON.stringify(fleet.recovery), { mode: 0o600 })
    other.policy({ unlockKeys: [{ file }] })
    const value = await succeed(other.host, 'vm.restore', asNew)
    assert.equal(value.freshness, 'unverifiable')
    assert.ok(other.content('root', name).equals(gone.content()))
    assert.equal((await other.bench.hypervisor.findVm(name, wait()))?.placement.macAddress, mac)
  })

  it('is refused with a key of somebody else', async () => {
    const fleet = await makeFleet()
    await using host = await makeBackupBench({ fleet })
    await backUp(host)
    await using other = await makeBackupBench({ fleet, hostId: 'host-2', provision: false })
    const file = `${other.policyPath}.jwk`
    writeFileSync(file, JSON.stringify((await makeFleet()).recovery), { mode: 0o600 })
    other.policy({ unlockKeys: [{ file }] })
    assert.equal((await failure(other.host, 'vm.restore', asNew)).code, 'E_AUTH')
    assert.deepEqual(await other.bench.leftovers(), [])
  })

  it('leaves nothing when its data is damaged, missing, or the guest does not get ready', async () => {
    for (const spoil of [flipBit, removePacks, neverReady]) {
      await using host = await makeBackupBench()
      await backUp(host)
      const before = await host.bench.leftovers()
      spoil(host)
      const { code } = await failure(host.host, 'vm.restore', asNew)
      assert.equal(code, spoil === neverReady ? 'E_CONFLICT' : 'E_CORRUPT', spoil.name)
      assert.deepEqual(await host.bench.leftovers(), before, spoil.name)
    }
  })

  it('refuses the latest of a repository that was rolled back, and restores what is named', async () => {
    await using host = await makeBackupBench()
    const { record: first } = await backUp(host)
    const old = new Map(host.fleet.objects)
    host.write([1], 0x77)
    const { record: second } = await backUp(host)
    host.fleet.objects.clear()
    for (const [key, object] of old) host.fleet.objects.set(key, object)
    const { code, message } = await failure(host.host, 'vm.restore', asNew)
    assert.equal(code, 'E_CORRUPT')
    assert.match(message, new RegExp(`older state.*${second.snapshot}`))
    const value = await succeed(host.host, 'vm.restore', { ...asNew, snapshot: first.snapshot })
    assert.equal(value.freshness, 'rolled-back')
  })

  it('goes by what the scheduler knows too', async () => {
    await using host = await makeBackupBench()
    const { record } = await backUp(host)
    const expected = '99999999-6b53-4a3e-9d1c-0123456789ab'
    assert.equal((await failure(host.host, 'vm.restore', { ...asNew, expected })).code, 'E_CORRUPT')
    const value = await succeed(host.host, 'vm.restore', { ...asNew, expected: record.snapshot })
    assert.equal(value.freshness, 'known')
  })

  it('refuses a name that is taken, and a repository that the policy lacks', async () => {
    await using host = await makeBackupBench()
    await backUp(host)
    assert.equal((await failure(host.host, 'vm.restore', { ...asNew, vm })).code, 'E_CONFLICT')
    assert.equal((await failure(host.host, 'vm.restore', { ...asNew, target: 'other' })).code, 'E_NOT_FOUND')
  })
})

describe('vm.restore in place', () => {
  it('puts the disks back, and removes the old ones once the VM is ready', async () => {
    await using host = await makeBackupBench()
    await backUp(host)
    const content = host.content()
    host.write([1, 9], 0x77)
    await succeed(host.host, 'vm.restore', inPlace)
    assert.ok(host.content().equals(content))
    const record = await host.bench.hypervisor.findVm(vm, wait())
    assert.equal(record?.state, 'running')
    const volumes = (await host.bench.leftovers()).filter((each) => each.startsWith('volume'))
    assert.deepEqual(
      volumes.sort(),
      [record?.placement.rootVolume, record?.placement.dataVolume].map((each) => `volume ${each}`).sort()
    )
    const { record: next } = await backUp(host)
    assert.equal(next.kind, 'fallback')
    assert.ok(next.storedBytes === 0, 'what is in the repository already is not stored again')
    await succeed(host.host, 'vm.teardown', { vm })
    assert.deepEqual(await host.bench.leftovers(), [])
  })

  it('gives the VM its old disks back when it is not ready with the restored ones', async () => {
    await using host = await makeBackupBench()
    await backUp(host)
    host.write([1, 9], 0x77)
    const content = host.content()
    const before = await host.bench.leftovers()
    neverReady(host)
    assert.equal((await failure(host.host, 'vm.restore', inPlace)).code, 'E_CONFLICT')
    assert.ok(host.content().equals(content))
    assert.deepEqual((await host.bench.leftovers()).sort(), before.sort())
    const record = await host.bench.hypervisor.findVm(vm, wait())
    assert.deepEqual([record?.wanted, record?.placement.rootStandsAlone], ['running', undefined])
  })

  it('keeps a disk that the snapshot does not hold', async () => {
    await using host = await makeBackupBench()
    await backUp(host, { disks: ['root'] })
    host.write([5], 0x66, 'data')
    const data = host.content('data')
    const value = await succeed(host.host, 'vm.restore', inPlace)
    assert.deepEqual(value.notRestored, ['data'])
    assert.ok(host.content('data').equals(data))
  })
})

describe('backup.verify', () => {
  it('finds a good snapshot good, and boots it in a machine that nobody sees and that goes', async () => {
    await using host = await makeBackupBench()
    await backUp(host)
    const before = await host.bench.leftovers()
    const seen: string[] = []
    host.bench.hypervisor.onEvent(({ name: which, kind }) => void (kind === 'started' && seen.push(which)))
    const value = (await verify(host, { boot: true })) as BackupVerifyResult
    assert.deepEqual(
      [value.verification.outcome, value.verification.booted, value.faults],
      ['good', true, []]
    )
    assert.equal(seen.length, 1)
    assert.match(seen[0] ?? '', /^verify-/)
    assert.deepEqual(await host.bench.leftovers(), before)
  })

  it('says why a snapshot does not boot, and leaves nothing of the machine', async () => {
    await using host = await makeBackupBench()
    await backUp(host)
    const before = await host.bench.leftovers()
    neverReady(host)
    const { verification } = await verify(host, { boot: true })
    assert.deepEqual([verification.outcome, verification.booted], ['bad', false])
    assert.match(verification.fault ?? '', /is stopped/)
    assert.deepEqual(await host.bench.leftovers(), before)
  })

  it('names what is damaged or missing', async () => {
    for (const spoil of [flipBit, removePacks]) {
      await using host = await makeBackupBench()
      await backUp(host)
      spoil(host)
      const { verification, faults } = await verify(host)
      assert.equal(verification.outcome, 'bad', spoil.name)
      assert.match(faults[0] ?? '', /packs\//, spoil.name)
    }
  })

  it('has the next backup be full once something is damaged, and those after it go on from that', async () => {
    await using host = await makeBackupBench()
    await backUp(host)
    flipBit(host)
    assert.equal((await verify(host)).verification.outcome, 'bad')
    const { record } = await backUp(host)
    assert.equal(record.kind, 'full')
    assert.match(record.reason ?? '', /verification found stored data damaged/)
    assert.equal((await verify(host)).verification.outcome, 'good')
    assert.equal((await backUp(host)).record.kind, 'incremental')
  })
})

describe('backup.list', () => {
  it('lists all, and what this host has no key for', async () => {
    const fleet = await makeFleet()
    await using host = await makeBackupBench({ fleet })
    const { record } = await backUp(host)
    const list = (await succeed(host.host, 'backup.list', { target })) as BackupListResult
    assert.deepEqual(list, { snapshots: [record], damaged: [], locked: [] })
    await using other = await makeBackupBench({ fleet, hostId: 'host-2', provision: false })
    const locked = (await succeed(other.host, 'backup.list', { target })) as BackupListResult
    assert.deepEqual(locked, { snapshots: [], damaged: [], locked: [source] })
  })
})

describe('backup.prune', () => {
  it('keeps what is asked for, whole, and the next backup goes on', async () => {
    await using host = await makeBackupBench()
    for (let round = 0; round < 3; round++) {
      host.write([round], 0x50 + round)
      await backUp(host)
    }
    const content = host.content()
    const args = { target, source, keep: { last: 1 } }
    const dry = (await succeed(host.host, 'backup.prune', { ...args, dryRun: true })) as PruneResult
    assert.deepEqual([dry.removed.length, dry.dryRun], [2, true])
    const { kept, removed } = (await succeed(host.host, 'backup.prune', args)) as PruneResult
    assert.deepEqual([kept.length, removed.length], [1, 2])
    await succeed(host.host, 'vm.restore', asNew)
    assert.ok(host.content('root', name).equals(content))
    host.write([9], 0x77)
    assert.equal((await backUp(host)).record.kind, 'incremental')
  })
})

describe('backup.export', () => {
  it('writes a new file below the directories of the policy, and nowhere else', async () => {
    await using host = await makeBackupBench()
    await backUp(host)
    const allowed = join(host.bench.directory, 'export')
    mkdirSync(allowed)
    const args = { target, source, snapshot: 'latest', disk: 'root', format: 'raw' }
    const refused = await failure(host.host, 'backup.export', { ...args, path: join(allowed, 'a.raw') })
    assert.equal(refused.code, 'E_AUTH')
    host.policy({ exportDirectories: [allowed] })
    const path = join(allowed, 'a.raw')
    await succeed(host.host, 'backup.export', { ...args, path })
    assert.ok(readFileSync(path).equals(host.content()))
    assert.equal((await failure(host.host, 'backup.export', { ...args, path })).code, 'E_CONFLICT')
    symlinkSync(host.bench.directory, join(allowed, 'out'))
    for (const away of [
      join(allowed, 'out', 'b.raw'),
      join(allowed, '..', 'b.raw'),
      `${allowed}-not/b.raw`
    ]) {
      const { code } = await failure(host.host, 'backup.export', { ...args, path: away })
      assert.ok(code === 'E_AUTH' || code === 'E_NOT_FOUND', away)
    }
    rmSync(path)
    flipBit(host)
    assert.equal((await failure(host.host, 'backup.export', { ...args, path })).code, 'E_CORRUPT')
    assert.throws(() => readFileSync(path), { code: 'ENOENT' })
  })
})

async function verify(host: BackupBench, args: Record<string, unknown> = {}): Promise<BackupVerifyResult> {
  const outcome = await carry(host.host, 'backup.verify', { target, source, snapshot: 'latest', ...args })
  assert.equal(outcome.outcome, 'done', JSON.stringify(outcome))
  if (outcome.outcome !== 'done') throw new HostletError('E_INTERNAL', 'not done')
  return outcome.value as unknown as BackupVerifyResult
}

function flipBit({ fleet }: BackupBench): void {
  for (const [key, object] of fleet.objects) {
    if (!key.includes('/packs/')) continue
    const content = new Uint8Array(object.content)
    content[100] = (content[100] ?? 0) ^ 1
    object.content = content
  }
}

function removePacks({ fleet }: BackupBench): void {
  for (const key of [...fleet.objects.keys()]) if (key.includes('/packs/')) fleet.objects.delete(key)
}

/** Whatever is started from now on powers itself off. */
function neverReady({ bench }: BackupBench): void {
  bench.hypervisor.onEvent(({ kind, name: which }) => {
    if (kind === 'started' && which !== vm) return bench.hypervisor.shutDownGuest(which)
    const standing = bench.hypervisor.calls.filter((call) => call === `define ${vm}`).length
    // The VM itself only while it has its restored disks.
    if (kind === 'started' && standing === 2) bench.hypervisor.shutDownGuest(which)
  })
}
