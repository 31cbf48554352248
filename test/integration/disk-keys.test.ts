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
import { connected, type LibvirtFixture, openLibvirtFixture } from '../contract/libvirt-fixture.ts'
import {
  askGuest,
  cannotProvision,
  guestSpecification,
  hostOf,
  hypervisorOf,
  leftoversOf,
  type ProvisionSetup,
  sealedSetupOf
} from './provision-host.ts'

const run = promisify(execFile)
/** Emulated guests on a busy machine. */
const guestMs = 900_000
const mebibyte = 1024 ** 2
/** Where the file systems of the guest have nothing yet. */
const canaryAt = { root: 120 * mebibyte, data: 14 * mebibyte }
const devices = { root: 'virtio-disk0', data: 'virtio-disk1' }
const roles = ['root', 'data'] as const

describe('encrypted disks', { skip: await cannotProvision(), timeout: 3_600_000 }, () => {
  let fixture: LibvirtFixture
  let setup: ProvisionSetup
  let host: Host
  let name: string
  /** Of the test itself. */
  let apart: string
  const uuid = randomUUID()
  const canary = randomBytes(64)
  let address: string
  let secrets = ''
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
    for (const { id } of host?.keys.disks.list() ?? [])
      await fixture.virsh('secret-undefine', id).catch(() => undefined)
    await host?.close()
    await fixture?.dispose()
    await rm(apart, { recursive: true, force: true })
  })

  it('boot, each with a key of its own, and hold nothing in clear that the guest writes', async () => {
    const specification = guestSpecification({
      name,
      uuid,
      dataDiskBytes: 16 * mebibyte,
      consoleLog: true,
      seed: { hostname: 'sealed' },
      ready: { http: { port: 80, path: '/' }, timeoutMs: guestMs }
    })
    const value = await succeed(host, 'vm.provision', { specification }, subject())
    address = String(value.address)
    const guest = await askGuest(address, guestMs)
    assert.equal(guest.dataBoots, 1)
    const { rootKey, dataKey } = await placement()
    assert.ok(rootKey && dataKey && rootKey !== dataKey)
    assert.notEqual(await host.keys.disks.unwrap(rootKey), await host.keys.disks.unwrap(dataKey))
    await writeCanary()
    for (const role of roles) assert.equal(await holds(await pathOf(role), canary), false, role)
  })

  it('are closed to the user of another VM, as is everything else of it and the base image', async () => {
    const { uid, rootVolume } = await placement()
    const base = (await host.hypervisor.listVolumes(wait())).find((each) => each.name.startsWith('base-'))
    assert.ok(base)
    const { stdout } = await run('find', [
      '/var/lib/libvirt/qemu',
      '/run/libvirt/qemu',
      '-path',
      `*${name.slice(0, 20)}*`
    ])
    // The number of a process is no secret.
    const ofLibvirt = stdout
      .trim()
      .split('\n')
      .filter((path) => !path.endsWith('.pid'))
    assert.ok(
      ofLibvirt.some((path) => path.endsWith('master-key.aes')),
      stdout
    )
    const console = join(setup.config.runtimeDirectory, 'console', `${uuid}.log`)
    const ofUs = [console, host.seeds.path(uuid), join(setup.config.stateDirectory, 'keys')]
    const paths = [...(await Promise.all(roles.map(pathOf))), ...ofUs, ...ofLibvirt]
    const { stdout: group } = await run('getent', ['group', 'libvirt-qemu'])
    const gid = group.split(':')[2] ?? ''
    const asOther = (...words: string[]) =>
      run('setpriv', ['--reuid', String(uid + 1), '--regid', gid, '--clear-groups', ...words]).then(
        () => true,
        () => false
      )
    for (const path of ofUs) assert.equal(await asOther('ls', `${path}/`), false, `lists ${path}`)
    // What libvirt makes is listed by all of QEMU's group: names, and nothing of what the files hold.
    for (const path of paths) {
      assert.equal(await asOther('cat', path), false, `reads ${path}`)
      assert.equal(await asOther('sh', '-c', `: >> '${path}'`), false, `writes ${path}`)
    }
    // The socket of the guest's agent is open to QEMU's group, as libvirt makes it: libvirtd is the client that is served.
    const sockets = ofLibvirt.filter((path) => path.endsWith('monitor.sock'))
    assert.ok(sockets.length > 0)
    const connect =
      "require('net').connect(process.argv[1]).on('connect', () => process.exit(0)).on('error', () => process.exit(1))"
    for (const path of sockets)
      assert.equal(await asOther(process.execPath, '-e', connect, path), false, path)
    assert.equal(await asOther('sh', '-c', `: >> '${base.path}'`), false)
    assert.equal(await asOther('sh', '-c', `: > '${join(fixture.pool.path, 'new')}'`), false)
    assert.equal(await asOther('ls', fixture.pool.path), false)
    // The same looks succeed for who may: nothing here is closed by being absent.
    assert.equal(await asOther('head', '-c', '1', base.path), true)
    assert.ok((await readFile(join(fixture.pool.path, rootVolume))).length > 0)
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
    const guest = await askGuest(address, guestMs)
    assert.equal(guest.dataBoots, 2)
  })

  it('have their keys told anew to a libvirt that has forgotten them, by an agent that connects', async () => {
    const { rootKey = '', dataKey = '' } = await placement()
    for (const id of [rootKey, dataKey]) await fixture.virsh('secret-undefine', id)
    const other = hypervisorOf(setup)
    const agent = await hostOf(other, setup)
    try {
      await connected(other)
      const { signal } = wait()
      while (![rootKey, dataKey].every((id) => secrets.includes(id))) {
        signal.throwIfAborted()
        secrets = await fixture.virsh('secret-list')
      }
      // They are given back to nobody.
      await assert.rejects(fixture.virsh('secret-get-value', rootKey), /private/)
    } finally {
      await agent.close()
      await other.close()
    }
  })

  it('open with new passphrases after a change, and with the old ones no more', async () => {
    await succeed(host, 'vm.stop', { vm: name }, subject())
    const before = await keyOf('root')
    await succeed(host, 'vm.rekey', { vm: name }, subject())
    assert.notEqual(await keyOf('root'), before)
    await assert.rejects(run('qemu-img', ['check', ...(await opened('root', before))]))
    await succeed(host, 'vm.start', { vm: name }, subject())
    assert.equal((await askGuest(address, guestMs)).dataBoots, 3)
  })

  it('leave nothing behind at teardown, keys first', async () => {
    const ids = host.keys.disks.listOf(uuid).map(({ id }) => id)
    assert.equal(ids.length, 2)
    const { removed } = (await succeed(host, 'vm.teardown', { vm: name }, subject())) as { removed: string[] }
    const firstVolume = removed.findIndex((each) => each.endsWith('.qcow2'))
    assert.ok(ids.every((id) => removed.indexOf(`key ${id}`) < firstVolume && removed.includes(`key ${id}`)))
    assert.deepEqual(await readdir(join(setup.config.stateDirectory, 'keys')), [])
    secrets = await fixture.virsh('secret-list')
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
