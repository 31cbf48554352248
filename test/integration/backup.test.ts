// Backups on real libvirt and QEMU from end to end: a guest that writes between them, and disks that come back byte for byte.

import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { mkdirSync, writeFileSync } from 'node:fs'
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { promisify } from 'node:util'
import { type BackupParts, backupPartsInMemory } from '../../src/agent/backups/backups.ts'
import { hostKeyName } from '../../src/agent/backups/host-key.ts'
import type { Host } from '../../src/agent/host/host.ts'
import { createPrivateKey, type PrivateKey, publicHalf } from '../../src/agent/keys/jwk.ts'
import type { BackupListResult, BackupVerifyResult, VmBackupResult } from '../../src/protocol/backup.ts'
import { succeed } from '../agent/verbs/bench.ts'
import { type LibvirtFixture, openLibvirtFixture } from '../contract/libvirt-fixture.ts'
import { TestAuthority, trustDomain } from '../support/test-authority.ts'
import {
  askGuest,
  cannotProvision,
  guestSpecification,
  hostOf,
  leftoversOf,
  type ProvisionSetup,
  setupOf
} from './provision-host.ts'

const run = promisify(execFile)
const target = 'main'

describe('backups on libvirt', { skip: await cannotProvision() }, () => {
  let fixture: LibvirtFixture
  let setup: ProvisionSetup
  let host: Host
  let recovery: PrivateKey
  let policyPath: string
  let vm: string
  let restored: string
  let parts: BackupParts
  const source = randomUUID()
  const uuid = randomUUID()
  let generation = 0
  const wait = () => ({ signal: AbortSignal.timeout(60_000) })
  const about = (name: string, id: string) => ({ subject: { vm: name, uuid: id, generation: ++generation } })

  before(async () => {
    fixture = await openLibvirtFixture()
    const base = setupOf(fixture)
    policyPath = join(fixture.directory, 'policy', 'policy.yaml')
    const backup = { policy: policyPath, compressionLevel: 1, freezeMs: 10_000 }
    setup = { ...base, config: { ...base.config, backup } }
    recovery = await createPrivateKey()
    const authority = await TestAuthority.create()
    const issued = await authority.issue({ uris: [`spiffe://${trustDomain}/host/host-1`] })
    const identity = {
      certificate: issued.cert,
      key: issued.key,
      caCertificate: authority.certificate,
      trustDomain
    }
    parts = { ...backupPartsInMemory(), identity: () => identity }
    mkdirSync(join(fixture.directory, 'policy'), { mode: 0o700 })
    mkdirSync(join(fixture.directory, 'repository'), { mode: 0o700 })
    writePolicy({})
    host = await hostOf(fixture.hypervisor, setup, parts)
    vm = `${fixture.prefix}-web`
    restored = `${fixture.prefix}-back`
  })
  after(async () => {
    await host?.close()
    await fixture?.dispose()
  })

  function writePolicy(changes: Record<string, unknown>): void {
    const policy = {
      repositories: { [target]: { url: `file://${join(fixture.directory, 'repository')}` } },
      recovery: [{ jwk: publicHalf(recovery) }],
      ...changes
    }
    writeFileSync(policyPath, JSON.stringify(policy), { mode: 0o600 })
  }

  async function backUp(args: Record<string, unknown> = {}): Promise<VmBackupResult> {
    return (await succeed(host, 'vm.backup', { vm, target, ...args })) as unknown as VmBackupResult
  }

  async function volumePath(name: string, disk: 'rootVolume' | 'dataVolume'): Promise<string> {
    const record = await host.hypervisor.findVm(name, wait())
    return join(fixture.pool.path, String(record?.placement[disk]))
  }

  it('takes a full one of a guest that runs, and an incremental one of what it wrote since', async () => {
    const specification = guestSpecification({ name: vm, uuid: source, dataDiskBytes: 8 * 1024 ** 2 })
    const { address } = await succeed(host, 'vm.provision', { specification }, about(vm, source))
    await askGuest(String(address))
    const first = await backUp()
    assert.deepEqual([first.record.kind, first.record.consistency], ['full', 'crash'])
    await succeed(host, 'vm.reboot', { vm, force: true }, about(vm, source))
    await askGuest(String(address))
    const second = await backUp()
    assert.deepEqual([second.record.kind, second.record.reason], ['incremental', undefined])
    assert.ok(second.record.readBytes < first.record.readBytes / 2, JSON.stringify(second.record))
    assert.equal((await host.hypervisor.listCheckpoints(vm, wait())).length, 1)
  })

  it('restores what was on the disks of a VM that is off, byte for byte, under another name', async () => {
    await succeed(host, 'vm.stop', { vm }, about(vm, source))
    const { record } = await backUp()
    assert.deepEqual([record.kind, record.consistency], ['incremental', 'stopped'])
    const args = { target, source, snapshot: record.snapshot, vm: restored, uuid, start: false }
    await succeed(host, 'vm.restore', args, about(restored, uuid))
    for (const disk of ['rootVolume', 'dataVolume'] as const) {
      const paths = [await volumePath(vm, disk), await volumePath(restored, disk)]
      const { stdout } = await run('qemu-img', ['compare', '-U', ...paths])
      assert.match(stdout, /Images are identical/, disk)
    }
  })

  it('restores a VM that starts and answers', async () => {
    await succeed(host, 'vm.teardown', { vm: restored }, about(restored, uuid))
    const args = { target, source, snapshot: 'latest', vm: restored, uuid }
    const value = await succeed(host, 'vm.restore', args, about(restored, uuid))
    const guest = await askGuest(String(value.address))
    assert.ok(Number(guest.boots) >= 3, JSON.stringify(guest))
    assert.ok(Number(guest.dataBoots) >= 3, JSON.stringify(guest))
  })

  it('finds the backup whole, and boots it in a machine of which nothing is left', async () => {
    const before = (await leftoversOf(host, setup)).sort()
    const args = { target, source, snapshot: 'latest', boot: true }
    const value = (await succeed(host, 'backup.verify', args)) as unknown as BackupVerifyResult
    assert.deepEqual([value.verification.outcome, value.faults], ['good', []], JSON.stringify(value))
    assert.equal(value.verification.booted, true)
    assert.deepEqual((await leftoversOf(host, setup)).sort(), before)
  })

  it('puts the disks of a VM back in place', async () => {
    const { snapshots } = (await succeed(host, 'backup.list', { target, source })) as BackupListResult
    assert.equal(snapshots.length, 3)
    const args = { target, source, snapshot: 'latest', vm, uuid: source, replace: true }
    const value = await succeed(host, 'vm.restore', args, about(vm, source))
    assert.ok(Number((await askGuest(String(value.address))).boots) >= 3)
    const { record } = await backUp()
    assert.equal(record.kind, 'fallback', 'the new disks have no checkpoint')
  })

  it('restores with the recovery key alone, on a host that has lost all it knew', async () => {
    await succeed(host, 'vm.teardown', { vm: restored }, about(restored, uuid))
    await succeed(host, 'vm.teardown', { vm }, about(vm, source))
    assert.deepEqual(await leftoversOf(host, setup), [])
    await rm(join(setup.config.stateDirectory, hostKeyName))
    const file = join(fixture.directory, 'policy', 'recovery.jwk')
    writeFileSync(file, JSON.stringify(recovery), { mode: 0o600 })
    writePolicy({ unlockKeys: [{ file }] })
    const lost = await hostOf(fixture.hypervisor, setup, {
      ...parts,
      ...backupPartsInMemory(),
      identity: parts.identity
    })
    const args = { target, source, snapshot: 'latest', vm: restored, uuid }
    const value = await succeed(lost, 'vm.restore', args, about(restored, uuid))
    assert.equal(value.freshness, 'unverifiable')
    assert.ok(Number((await askGuest(String(value.address))).boots) >= 3)
    await succeed(lost, 'vm.teardown', { vm: restored }, about(restored, uuid))
    assert.deepEqual(await leftoversOf(lost, setup), [])
    await lost.close()
  })
})
