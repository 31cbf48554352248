// Backups and restores of VMs whose disks are encrypted, on real libvirt: what comes back is the same, under other keys.

import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { mkdirSync, readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { promisify } from 'node:util'
import { backupPartsInMemory } from '../../src/agent/backups/backups.ts'
import type { Host } from '../../src/agent/host/host.ts'
import type { Placement } from '../../src/agent/host/hypervisor.ts'
import { createPrivateKey, publicHalf } from '../../src/agent/keys/jwk.ts'
import type { VmBackupResult } from '../../src/protocol/backup.ts'
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
  sealedSetupOf
} from './provision-host.ts'

const run = promisify(execFile)
/** Emulated guests on a busy machine. */
const guestMs = 900_000
const target = 'main'
const roles = ['root', 'data'] as const

describe('backups of encrypted VMs', { skip: await cannotProvision(), timeout: 3_600_000 }, () => {
  let fixture: LibvirtFixture
  let setup: ProvisionSetup
  let host: Host
  let vm: string
  let back: string
  let snapshot: string
  const [source, uuid] = [randomUUID(), randomUUID()]
  let generation = 0
  const wait = () => ({ signal: AbortSignal.timeout(120_000) })
  const about = (name: string, id: string) => ({ subject: { vm: name, uuid: id, generation: ++generation } })

  before(async () => {
    fixture = await openLibvirtFixture()
    const policy = join(fixture.directory, 'policy', 'policy.yaml')
    setup = sealedSetupOf(fixture, { backup: { policy, compressionLevel: 1, freezeMs: 10_000 } })
    const authority = await TestAuthority.create()
    const issued = await authority.issue({ uris: [`spiffe://${trustDomain}/host/host-1`] })
    const { certificate: caCertificate } = authority
    const identity = { certificate: issued.cert, key: issued.key, caCertificate, trustDomain }
    for (const name of ['policy', 'repository']) mkdirSync(join(fixture.directory, name), { mode: 0o700 })
    const recovery = [{ jwk: publicHalf(await createPrivateKey()) }]
    const repositories = { [target]: { url: `file://${join(fixture.directory, 'repository')}` } }
    writeFileSync(policy, JSON.stringify({ repositories, recovery }), { mode: 0o600 })
    host = await hostOf(fixture.hypervisor, setup, { ...backupPartsInMemory(), identity: () => identity })
    vm = `${fixture.prefix}-web`
    back = `${fixture.prefix}-back`
  })
  after(async () => {
    for (const { id } of host?.keys.disks.list() ?? [])
      await fixture.virsh('secret-undefine', id).catch(() => undefined)
    await host?.close()
    await fixture?.dispose()
  })

  it('are taken while they run, and of VMs that are off', async () => {
    const specification = guestSpecification({
      name: vm,
      uuid: source,
      dataDiskBytes: 8 * 1024 ** 2,
      ready: { timeoutMs: guestMs }
    })
    const { address } = await succeed(host, 'vm.provision', { specification }, about(vm, source))
    await askGuest(String(address), guestMs)
    const first = (await succeed(host, 'vm.backup', { vm, target })) as unknown as VmBackupResult
    assert.equal(first.record.kind, 'full')
    await succeed(host, 'vm.stop', { vm }, about(vm, source))
    const second = (await succeed(host, 'vm.backup', { vm, target })) as unknown as VmBackupResult
    assert.deepEqual([second.record.kind, second.record.consistency], ['incremental', 'stopped'])
    snapshot = second.record.snapshot
  })

  it('come back as another VM, the same byte for byte, encrypted with keys of its own', async () => {
    const args = { target, source, snapshot, vm: back, uuid, start: false }
    await succeed(host, 'vm.restore', args, about(back, uuid))
    const [before, after] = [await placementOf(vm), await placementOf(back)]
    assert.equal(new Set([before.rootKey, before.dataKey, after.rootKey, after.dataKey]).size, 4)
    for (const role of roles) await assertSame(before, after, role)
    const { address } = await succeed(host, 'vm.start', { vm: back }, about(back, uuid))
    assert.equal((await askGuest(String(address), guestMs)).dataBoots, 2)
  })

  it('take the place of disks, whose keys are destroyed then', async () => {
    const before = await placementOf(vm)
    const reference = await placementOf(vm)
    const args = { target, source, snapshot, vm, uuid: source, replace: true, start: false }
    await succeed(host, 'vm.restore', args, about(vm, source))
    const after = await placementOf(vm)
    assert.ok(after.rootKey && after.dataKey)
    assert.equal([reference.rootKey, reference.dataKey].includes(after.rootKey), false)
    const files = readdirSync(join(setup.config.stateDirectory, 'keys'))
    assert.equal(files.includes(`${before.rootKey}.json`) || files.includes(`${before.dataKey}.json`), false)
    assert.equal(files.length, 4)
    const { address } = await succeed(host, 'vm.start', { vm }, about(vm, source))
    assert.equal((await askGuest(String(address), guestMs)).dataBoots, 2)
  })

  it('leave nothing behind', async () => {
    await succeed(host, 'vm.teardown', { vm: back }, about(back, uuid))
    await succeed(host, 'vm.teardown', { vm }, about(vm, source))
    assert.deepEqual(readdirSync(join(setup.config.stateDirectory, 'keys')), [])
    assert.deepEqual(await leftoversOf(host, setup), [])
  })

  async function placementOf(name: string): Promise<Placement> {
    const record = await host.hypervisor.findVm(name, wait())
    assert.ok(record)
    return record.placement
  }

  async function assertSame(one: Placement, other: Placement, role: (typeof roles)[number]): Promise<void> {
    const images: string[] = []
    const secrets: string[] = []
    for (const [index, placement] of [one, other].entries()) {
      const key = join(fixture.directory, `key-${index}`)
      const [id, volume] =
        role === 'root'
          ? [placement.rootKey, placement.rootVolume]
          : [placement.dataKey, placement.dataVolume]
      writeFileSync(key, await host.keys.disks.unwrap(id ?? ''), { mode: 0o600 })
      secrets.push('--object', `secret,id=k${index},file=${key}`)
      const path = join(fixture.pool.path, volume ?? '')
      images.push(`driver=qcow2,encrypt.key-secret=k${index},file.filename=${path}`)
    }
    const { stdout } = await run('qemu-img', ['compare', '-U', ...secrets, '--image-opts', ...images])
    assert.match(stdout, /Images are identical/, role)
  }
})
