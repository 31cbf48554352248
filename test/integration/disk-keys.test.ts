// Encrypted disks on real libvirt and QEMU: made, booted, unreadable without their key, and gone with it.

import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { randomBytes, randomUUID } from 'node:crypto'
import { chmod, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { promisify } from 'node:util'
import type { Host } from '../../src/agent/host/host.ts'
import type { Placement } from '../../src/agent/host/hypervisor.ts'
import { succeed } from '../agent/verbs/bench.ts'
import { type LibvirtFixture, openLibvirtFixture } from '../contract/libvirt-fixture.ts'
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
const mebibyte = 1024 ** 2
/** Where the file systems of the guest have nothing yet. */
const canaryAt = { root: 120 * mebibyte, data: 14 * mebibyte }
const devices = { root: 'virtio-disk0', data: 'virtio-disk1' }
const roles = ['root', 'data'] as const

describe('encrypted disks', { skip: await cannotProvision(), timeout: 900_000 }, () => {
  let fixture: LibvirtFixture
  let setup: ProvisionSetup
  let host: Host
  let name: string
  /** Of the test itself. */
  let apart: string
  const uuid = randomUUID()
  const canary = randomBytes(64)
  let address: string
  let generation = 0
  const wait = () => ({ signal: AbortSignal.timeout(120_000) })
  const subject = () => ({ subject: { vm: name, uuid, generation: ++generation } })

  before(async () => {
    apart = await mkdtemp('/var/tmp/hl-t-apart-')
    await chmod(apart, 0o711)
    fixture = await openLibvirtFixture()
    setup = sealedSetupOf(fixture)
    host = await hostOf(fixture.hypervisor, setup)
    name = `${fixture.prefix}-sealed`
  })
  after(async () => {
    await host?.close()
    await fixture?.dispose()
    await rm(apart, { recursive: true, force: true })
  })

  it('boot, each with a key of its own, and hold nothing in clear that the guest writes', async () => {
    const specification = guestSpecification({ name, uuid, dataDiskBytes: 16 * mebibyte })
    const value = await succeed(host, 'vm.provision', { specification }, subject())
    address = String(value.address)
    const guest = await askGuest(address)
    assert.equal(guest.dataBoots, 1)
    const { rootKey, dataKey } = await placement()
    assert.ok(rootKey && dataKey && rootKey !== dataKey)
    assert.notEqual(await host.keys.disks.unwrap(rootKey), await host.keys.disks.unwrap(dataKey))
    await writeCanary()
    for (const role of roles) assert.equal(await holds(await pathOf(role), canary), false, role)
  })

  it('are what libvirt and QEMU take them for, with nothing amiss in their headers', async () => {
    for (const role of roles) {
      const info = JSON.parse(
        (await run('qemu-img', ['info', '-U', '--output=json', await pathOf(role)])).stdout
      )
      assert.equal(info.encrypted, true)
      assert.equal(info['format-specific'].data.encrypt.format, 'luks')
      assert.equal(info['virtual-size'], role === 'root' ? 128 * mebibyte : 16 * mebibyte)
    }
    const volumes = await host.hypervisor.listVolumes(wait())
    const { rootVolume } = await placement()
    assert.equal(volumes.find((each) => each.name === rootVolume)?.capacityBytes, 128 * mebibyte)
    assert.match(
      await fixture.virsh('vol-dumpxml', rootVolume, '--pool', fixture.pool.name),
      /<encryption format='luks'/
    )
  })

  it('open with their key and no other, off and on again with their data', async () => {
    await succeed(host, 'vm.stop', { vm: name }, subject())
    for (const role of roles) {
      const { stdout } = await run('qemu-img', ['check', ...(await opened(role, await keyOf(role)))])
      assert.match(stdout, /No errors were found/)
      await assert.rejects(
        run('qemu-img', ['check', ...(await opened(role, randomBytes(32).toString('base64')))])
      )
      assert.ok((await readAs(role, await keyOf(role))).includes(canary))
    }
    await succeed(host, 'vm.start', { vm: name }, subject())
    const guest = await askGuest(address)
    assert.equal(guest.dataBoots, 2)
  })

  it('leave nothing behind at teardown, keys first', async () => {
    const ids = host.keys.disks.listOf(uuid).map(({ id }) => id)
    assert.equal(ids.length, 2)
    const { removed } = (await succeed(host, 'vm.teardown', { vm: name }, subject())) as { removed: string[] }
    const firstVolume = removed.findIndex((each) => each.endsWith('.qcow2'))
    assert.ok(ids.every((id) => removed.indexOf(`key ${id}`) < firstVolume && removed.includes(`key ${id}`)))
    assert.deepEqual(await readdir(join(setup.config.stateDirectory, 'keys')), [])
    const secrets = await fixture.virsh('secret-list')
    assert.ok(ids.every((id) => !secrets.includes(id)))
    assert.deepEqual(await leftoversOf(host, setup), [])
  })

  async function placement(): Promise<Placement> {
    const record = await host.hypervisor.findVm(name, wait())
    assert.ok(record)
    return record.placement
  }

  async function pathOf(role: (typeof roles)[number]): Promise<string> {
    const { rootVolume, dataVolume } = await placement()
    return join(fixture.pool.path, (role === 'root' ? rootVolume : dataVolume) ?? '')
  }

  async function keyOf(role: (typeof roles)[number]): Promise<string> {
    const { rootKey, dataKey } = await placement()
    return await host.keys.disks.unwrap((role === 'root' ? rootKey : dataKey) ?? '')
  }

  /** Through the device, as the guest would. */
  async function writeCanary(): Promise<void> {
    const path = join(apart, 'canary')
    await writeFile(path, Buffer.concat(Array.from({ length: 1024 }, () => canary)), { mode: 0o644 })
    for (const role of roles) {
      const write = `qemu-io -d /machine/peripheral/${devices[role]}/virtio-backend "write -s ${path} ${canaryAt[role]} 64k"`
      assert.equal((await fixture.virsh('qemu-monitor-command', '--hmp', name, write)).trim(), '')
    }
  }

  async function opened(role: (typeof roles)[number], passphrase: string): Promise<string[]> {
    const key = join(apart, 'key')
    await writeFile(key, passphrase, { mode: 0o600 })
    const image = `driver=qcow2,encrypt.key-secret=k,file.filename=${await pathOf(role)}`
    return ['--object', `secret,id=k,file=${key}`, '--image-opts', image]
  }

  async function readAs(role: (typeof roles)[number], passphrase: string): Promise<Buffer> {
    const path = join(apart, 'clear.raw')
    await run('qemu-img', ['convert', '-O', 'raw', ...(await opened(role, passphrase)), path])
    const content = await readFile(path)
    await rm(path)
    return content
  }

  async function holds(path: string, bytes: Buffer): Promise<boolean> {
    return (await readFile(path)).includes(bytes)
  }
})
