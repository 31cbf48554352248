// vm.backup on the hypervisor in memory: what each kind stores, what is said, and that a failure harms nothing.

import assert from 'node:assert/strict'
import { writeFileSync } from 'node:fs'
import { describe, it } from 'node:test'
import { checkpointName } from '../../../src/agent/backups/checkpoints.ts'
import { HostletError } from '../../../src/errors.ts'
import { MemoryStore } from '../../support/memory-store.ts'
import { carry, succeed } from '../verbs/bench.ts'
import {
  type BackupBench,
  backUp,
  checkpoints,
  failure,
  makeBackupBench,
  makeFleet,
  target,
  vm,
  wait
} from './bench.ts'

const blockBytes = 65_536

function packs({ fleet }: BackupBench): number {
  return [...fleet.objects.keys()].filter((name) => name.includes('/packs/')).length
}

function manifests({ fleet }: BackupBench): string[] {
  return [...fleet.objects.keys()].filter((name) => name.includes('/snapshots/'))
}

/** Name of the VM key that a manifest is under. */
function keyIdOf({ fleet }: BackupBench, manifest = ''): string {
  return JSON.parse(Buffer.from(fleet.objects.get(manifest)?.content ?? []).toString()).keyId
}

describe('vm.backup', () => {
  it('is full at first, and costs what changed afterwards', async () => {
    await using host = await makeBackupBench()
    const { record: first } = await backUp(host)
    assert.deepEqual(
      [first.kind, first.sequence, first.previous, first.consistency],
      ['full', 1, null, 'crash']
    )
    assert.equal(first.readBytes, 4 * blockBytes)
    host.write([2], 0x33)
    const { record: second } = await backUp(host)
    assert.deepEqual([second.kind, second.sequence, second.previous], ['incremental', 2, first.snapshot])
    assert.equal(second.reason, undefined)
    assert.equal(second.readBytes, blockBytes)
    assert.deepEqual(await checkpoints(host), [checkpointName(target, second.snapshot)])
  })

  it('reads nothing of a VM that has not changed', async () => {
    await using host = await makeBackupBench()
    await backUp(host)
    const before = packs(host)
    const { record } = await backUp(host)
    assert.deepEqual([record.kind, record.readBytes, record.storedBytes], ['incremental', 0, 0])
    assert.equal(packs(host), before)
    assert.equal(manifests(host).length, 2)
  })

  it('reads all when asked for a full one, and begins a new chain', async () => {
    await using host = await makeBackupBench()
    await backUp(host)
    const { record } = await backUp(host, { mode: 'full' })
    assert.deepEqual([record.kind, record.readBytes], ['full', 4 * blockBytes])
    assert.ok(record.storedBytes > 0)
    host.write([2], 0x33)
    assert.equal((await backUp(host)).record.kind, 'incremental')
  })

  it('backs up a VM that is off, which is off again afterwards', async () => {
    await using host = await makeBackupBench()
    await succeed(host.host, 'vm.stop', { vm })
    const { record } = await backUp(host)
    assert.equal(record.consistency, 'stopped')
    assert.equal((await host.bench.hypervisor.findVm(vm, wait()))?.state, 'stopped')
  })

  it('says when the guest could not be frozen', async () => {
    await using host = await makeBackupBench()
    const frozen = await backUp(host, { quiesce: 'freeze' })
    assert.deepEqual([frozen.record.consistency, frozen.freezeFault], ['frozen', undefined])
    host.bench.hypervisor.backups.faults.freeze = 'no guest agent answers'
    const crash = await backUp(host, { quiesce: 'freeze' })
    assert.deepEqual([crash.record.consistency, crash.freezeFault], ['crash', 'no guest agent answers'])
  })

  it('takes the disks that are named, and refuses one that there is not', async () => {
    await using host = await makeBackupBench()
    const { record } = await backUp(host, { disks: ['data'] })
    assert.deepEqual(
      record.disks.map(({ role }) => role),
      ['data']
    )
    await using lone = await makeBackupBench({ specification: { name: vm }, provision: false })
    await succeed(lone.host, 'vm.provision', { specification: lone.bench.specification() })
    assert.equal(
      (await failure(lone.host, 'vm.backup', { vm, target, disks: ['data'] })).code,
      'E_BAD_REQUEST'
    )
  })
})

describe('vm.backup falls back to comparing, and says why, when', () => {
  const cases: readonly (readonly [
    string,
    RegExp,
    (host: BackupBench, snapshot: string) => Promise<void> | void
  ])[] = [
    [
      'the bitmap of the checkpoint is inconsistent',
      /is lost or inconsistent/,
      ({ bench }, snapshot) => bench.hypervisor.backups.spoilCheckpoint(vm, checkpointName(target, snapshot))
    ],
    [
      'libvirt and the disks have lost it',
      /libvirt has lost the checkpoint/,
      async ({ bench, disk }, snapshot) => {
        bench.hypervisor.backups.forgetCheckpoints(vm)
        for (const role of ['root', 'data'] as const)
          disk(role).removeBitmap(checkpointName(target, snapshot))
      }
    ]
  ]
  for (const [when, reason, spoil] of cases)
    it(when, async () => {
      await using host = await makeBackupBench()
      const { record: first } = await backUp(host)
      await spoil(host, first.snapshot)
      host.write([5], 0x44)
      const { record } = await backUp(host)
      assert.equal(record.kind, 'fallback')
      assert.match(record.reason ?? '', reason)
      assert.equal(record.readBytes, 5 * blockBytes)
      assert.ok(record.storedBytes < first.storedBytes * 2)
      assert.deepEqual(await checkpoints(host), [checkpointName(target, record.snapshot)])
      assert.equal((await backUp(host)).record.kind, 'incremental')
    })

  it('another host made the last one', async () => {
    const fleet = await makeFleet()
    await using one = await makeBackupBench({ fleet })
    await using other = await makeBackupBench({ fleet, hostId: 'host-2' })
    other.policy({ unlockKeys: [{ file: recoveryFile(other) }] })
    await backUp(one)
    const { record } = await backUp(other)
    assert.deepEqual([record.kind, record.sequence, record.host], ['fallback', 2, 'host-2'])
    assert.match(record.reason ?? '', /made by host host-1/)
    const { record: third } = await backUp(one)
    assert.deepEqual([third.kind, third.sequence], ['fallback', 3])
  })

  it('a captured host put one there under a key that it knows: ours stays', async () => {
    const fleet = await makeFleet()
    await using one = await makeBackupBench({ fleet })
    one.policy({ unlockKeys: [{ file: recoveryFile(one) }] })
    await backUp(one)
    const [first] = manifests(one)
    await using captured = await makeBackupBench({
      fleet: { ...fleet, objects: new MemoryStore().objects },
      hostId: 'host-2'
    })
    await backUp(captured)
    await backUp(captured)
    for (const [name, object] of captured.fleet.objects) fleet.objects.set(name, object)
    const { record } = await backUp(one)
    assert.deepEqual([record.kind, record.sequence], ['full', 3])
    assert.match(record.reason ?? '', /by host host-2, is under another key/)
    const last = manifests(one).find((name) => name.includes(record.snapshot))
    assert.equal(keyIdOf(one, last), keyIdOf(one, first))
    assert.equal((await backUp(one)).record.kind, 'incremental')
  })

  it('the last one does not hold a disk', async () => {
    await using host = await makeBackupBench()
    await backUp(host, { disks: ['root'] })
    const { record } = await backUp(host)
    assert.match(record.reason ?? '', /does not hold the data disk/)
  })
})

describe('vm.backup goes on from the last one although', () => {
  it('libvirt has lost its metadata: it is told of the checkpoint again', async () => {
    await using host = await makeBackupBench()
    await backUp(host)
    host.bench.hypervisor.backups.forgetCheckpoints(vm)
    host.write([5], 0x44)
    const { record } = await backUp(host)
    assert.deepEqual([record.kind, record.readBytes], ['incremental', blockBytes])
  })

  it('one between them failed: the checkpoint of the last good one still holds', async () => {
    await using host = await makeBackupBench()
    const { record: first } = await backUp(host)
    host.write([5], 0x44)
    host.store.before = (call, name) => {
      if (call === 'put' && name.includes('/packs/'))
        throw new HostletError('E_CAPACITY', 'the bucket is full')
    }
    assert.equal((await failure(host.host, 'vm.backup', { vm, target })).code, 'E_CAPACITY')
    assert.deepEqual(await checkpoints(host), [checkpointName(target, first.snapshot)])
    assert.equal(host.bench.hypervisor.backups.hasJob(vm), false)
    delete host.store.before
    const { record } = await backUp(host)
    assert.deepEqual([record.kind, record.readBytes], ['incremental', blockBytes])
  })

  it('its VM is backed up to another repository too', async () => {
    await using host = await makeBackupBench()
    const url = 'file:///nowhere'
    host.policy({ repositories: { main: { url }, second: { url } } })
    await backUp(host)
    host.write([5], 0x44)
    // Of one store: the second goes by the same snapshots, and keeps a checkpoint of its own.
    await backUp(host, { target: 'second', mode: 'full' })
    assert.equal((await checkpoints(host)).length, 2)
  })
})

describe('vm.backup that fails', () => {
  it('at any call of the repository leaves VM, checkpoints and snapshots as they were', async () => {
    const calls = await countCalls()
    assert.ok(calls > 5, `${calls} calls`)
    for (let at = 1; at <= calls; at++) await failAt(at)
  })

  it('for lack of room for scratch files, or with its VM, says so', async () => {
    await using host = await makeBackupBench()
    host.bench.hypervisor.backups.faults.scratchFull = true
    assert.equal((await failure(host.host, 'vm.backup', { vm, target })).code, 'E_CAPACITY')
    host.bench.hypervisor.backups.faults.scratchFull = false
    host.store.before = (call, name) => {
      if (call === 'put' && name.includes('/packs/')) host.bench.hypervisor.shutDownGuest(vm)
    }
    const { code, message } = await failure(host.host, 'vm.backup', { vm, target })
    assert.deepEqual([code, /stopped during its backup/.test(message)], ['E_UNAVAILABLE', true], message)
    assert.deepEqual([manifests(host), await checkpoints(host)], [[], []])
  })

  it('counts as done when the manifest was written and only the answer was lost', async () => {
    await using host = await makeBackupBench()
    host.store.after = (call, name) => {
      if (call === 'put' && name.includes('/snapshots/')) throw new HostletError('E_TIMEOUT', 'no answer')
    }
    const { record } = await backUp(host)
    delete host.store.after
    assert.equal(manifests(host).length, 1)
    host.write([5], 0x44)
    const { record: second } = await backUp(host)
    assert.deepEqual([second.kind, second.previous], ['incremental', record.snapshot])
  })
})

describe('vm.backup is refused', () => {
  it('without a policy, and for a repository that it does not name', async () => {
    await using host = await makeBackupBench()
    const { code, message } = await failure(host.host, 'vm.backup', { vm, target: 'other' })
    assert.equal(code, 'E_NOT_FOUND')
    assert.match(message, /An administrator adds it to/)
    const { rmSync } = await import('node:fs')
    rmSync(host.policyPath)
    assert.equal((await failure(host.host, 'vm.backup', { vm, target })).code, 'E_AUTH')
    assert.deepEqual([...host.fleet.objects.keys()], [])
  })

  it('into a repository that is empty although it was used before: a mount is missing', async () => {
    await using host = await makeBackupBench()
    await backUp(host)
    host.fleet.objects.clear()
    const { code } = await failure(host.host, 'vm.backup', { vm, target })
    assert.equal(code, 'E_NOT_FOUND')
    assert.deepEqual([...host.fleet.objects.keys()], [])
  })

  it("before anything is copied, while the host's certificate is not valid: nobody would believe its signature", async () => {
    const certificate = { from: Date.now() - 2 * 86_400_000, to: Date.now() - 86_400_000 }
    await using host = await makeBackupBench({ certificate })
    const { code, message } = await failure(host.host, 'vm.backup', { vm, target })
    assert.equal(code, 'E_AUTH')
    assert.match(message, /certificate, which is valid from/)
    assert.equal(packs(host), 0)
    assert.deepEqual(await checkpoints(host), [])
  })

  it("when no key here opens the VM's earlier backups", async () => {
    const fleet = await makeFleet()
    await using one = await makeBackupBench({ fleet })
    await using other = await makeBackupBench({ fleet, hostId: 'host-2' })
    await backUp(one)
    assert.equal((await failure(other.host, 'vm.backup', { vm, target })).code, 'E_AUTH')
    assert.equal(manifests(other).length, 1)
  })
})

function recoveryFile(host: BackupBench): string {
  const path = `${host.policyPath}.recovery.jwk`
  writeFileSync(path, JSON.stringify(host.fleet.recovery), { mode: 0o600 })
  return path
}

/** Leases apart: one that is left of a failure has to run out, which takes its time. */
function counts(name: string): boolean {
  return !name.includes('/locks/')
}

async function countCalls(): Promise<number> {
  await using host = await makeBackupBench()
  await backUp(host)
  host.write([5], 0x44)
  let calls = 0
  host.store.before = (_call, name) => {
    if (counts(name)) calls++
  }
  await backUp(host)
  return calls
}

async function failAt(at: number): Promise<void> {
  await using host = await makeBackupBench()
  const { record: first } = await backUp(host)
  host.write([5], 0x44)
  let calls = 0
  host.store.before = (call, name) => {
    if (counts(name) && ++calls === at) throw new HostletError('E_UNAVAILABLE', `${call} ${name} failed`)
  }
  const outcome = await carry(host.host, 'vm.backup', { vm, target })
  delete host.store.before
  const record = await host.bench.hypervisor.findVm(vm, wait())
  assert.equal(record?.state, 'running', `call ${at}`)
  assert.equal(host.bench.hypervisor.backups.hasJob(vm), false, `call ${at}`)
  if (outcome.outcome === 'failed') {
    assert.deepEqual(await checkpoints(host), [checkpointName(target, first.snapshot)], `call ${at}`)
    assert.equal(manifests(host).length, 1, `call ${at}`)
  }
  const { record: next } = await backUp(host)
  assert.equal(next.kind, 'incremental', `call ${at}: ${next.reason}`)
}
