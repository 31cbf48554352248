// The life of a VM on real libvirt and QEMU: made, looked at, stopped, started, rebooted, torn down.

import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { existsSync } from 'node:fs'
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import type { Host } from '../../src/agent/host/host.ts'
import { baseVolumeName } from '../../src/agent/host/names.ts'
import { carry, succeed } from '../agent/verbs/bench.ts'
import { type LibvirtFixture, openLibvirtFixture } from '../contract/libvirt-fixture.ts'
import {
  askGuest,
  cannotProvision,
  guestSpecification,
  hostOf,
  leftoversOf,
  ownerOf,
  type ProvisionSetup,
  setupOf
} from './provision-host.ts'

describe('the life of a VM on libvirt', { skip: await cannotProvision() }, () => {
  let fixture: LibvirtFixture
  let setup: ProvisionSetup
  let host: Host
  let name: string
  const uuid = randomUUID()
  let address: string
  let generation = 0
  const wait = () => ({ signal: AbortSignal.timeout(60_000) })
  const subject = () => ({ subject: { vm: name, uuid, generation: ++generation } })

  before(async () => {
    fixture = await openLibvirtFixture()
    setup = setupOf(fixture)
    host = await hostOf(fixture.hypervisor, setup)
    name = `${fixture.prefix}-web`
  })
  after(async () => {
    await host?.close()
    await fixture?.dispose()
  })

  it('is provisioned and answers with what its seed says', async () => {
    const specification = guestSpecification({
      name,
      uuid,
      dataDiskBytes: 8 * 1024 ** 2,
      cpuLimitPercent: 100,
      consoleLog: true,
      seed: {
        hostname: 'seeded',
        sshAuthorizedKeys: ['ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIExample "ops" <x>']
      }
    })
    const value = await succeed(host, 'vm.provision', { specification }, subject())
    address = String(value.address)
    const guest = await askGuest(address)
    assert.equal(guest.hostname, 'seeded')
    assert.equal(guest.instanceId, uuid)
    assert.equal(guest.boots, 1)
    assert.equal(guest.dataBoots, 1)
    const keys = await (await fetch(`http://${address}/authorized_keys`)).text()
    assert.match(keys, /^ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIExample/m)
  })

  it("runs as a user of its own, on a base image that is nobody else's", async () => {
    const record = await host.hypervisor.findVm(name, wait())
    const uid = record?.placement.uid
    assert.equal(uid, fixture.uid)
    const process = (await readFile(`/run/libvirt/qemu/${name}.pid`, 'utf8')).trim()
    const status = await readFile(`/proc/${process}/status`, 'utf8')
    assert.match(status, new RegExp(`^Uid:\\s+${uid}\\s+${uid}\\s+${uid}\\s+${uid}$`, 'm'))
    const base = baseVolumeName(guestSpecification({ name, uuid }).image)
    assert.deepEqual(await ownerOf(join(fixture.pool.path, base)), { uid: 0, mode: 0o444 })
    assert.equal((await ownerOf(join(fixture.pool.path, record?.placement.rootVolume ?? ''))).uid, uid)
    assert.deepEqual(await ownerOf(fixture.pool.path), { uid: 0, mode: 0o711 })
  })

  it("has an isolated port, no screen, no autostart, and its console's log where it asked for one", async () => {
    const xml = await fixture.virsh('dumpxml', name)
    assert.match(xml, /<port isolated='yes'\/>/)
    assert.doesNotMatch(xml, /<graphics|<sound|type='tablet'|<hostdev/)
    assert.match(await fixture.virsh('dominfo', name), /Autostart:\s+disable/)
    const log = await readFile(join(setup.config.runtimeDirectory, 'console', `${uuid}.log`), 'utf8')
    assert.match(log, /hostlet-guest: ready seeded/)
    const network = await fixture.virsh('net-dumpxml', fixture.network.name)
    assert.match(network, /<forward mode='open'\/>/)
    assert.match(network, /<dns enable='no'\/>/)
  })

  it('has no seed left: not in the machine, not in its definition, not on the host', async () => {
    assert.equal(existsSync(host.seeds.path(uuid)), false)
    for (const flags of [[], ['--inactive']]) {
      const xml = await fixture.virsh('dumpxml', name, ...flags)
      assert.doesNotMatch(xml, /\.iso/)
    }
  })

  it('is told by state, list and counters', async () => {
    const { vm } = (await succeed(host, 'vm.state', { vm: name })) as { vm: Record<string, unknown> }
    assert.equal(vm.state, 'running')
    assert.equal(vm.address, address)
    assert.ok(typeof vm.startedAt === 'number')
    const { vms } = (await succeed(host, 'vm.list', {})) as { vms: { name: string }[] }
    assert.ok(vms.some((each) => each.name === name))
    const counters = (await host.hypervisor.counters(wait())).find((domain) => domain.uuid === uuid)
    assert.ok((counters?.cpuNanoseconds ?? 0) > 0)
    assert.ok((counters?.diskReadBytes ?? 0) > 1024 ** 2)
    assert.ok((counters?.receiveBytes ?? 0) > 0)
    const { facts } = (await succeed(host, 'host.facts', {})) as { facts: { accelerator: string } }
    assert.equal(facts.accelerator, 'tcg')
  })

  it('powers off when asked, and starts again on the same disks', async () => {
    const stopped = await succeed(host, 'vm.stop', { vm: name }, subject())
    assert.equal(stopped.forced, false)
    assert.equal((stopped.vm as { state: string }).state, 'stopped')
    await succeed(host, 'vm.stop', { vm: name }, subject())
    const started = await succeed(host, 'vm.start', { vm: name }, subject())
    assert.equal(started.address, address)
    const guest = await askGuest(address)
    assert.equal(guest.boots, 2)
    assert.equal(guest.dataBoots, 2)
    assert.equal(guest.hostname, 'seeded')
  })

  it('reboots when asked', async () => {
    const before = await askGuest(address)
    await succeed(host, 'vm.reboot', { vm: name }, subject())
    for (;;) {
      const guest = await askGuest(address)
      if (guest.bootId === before.bootId) continue
      assert.equal(guest.boots, 3)
      break
    }
  })

  it('is cut off when it does not listen, and the answer says so', async () => {
    const stopped = await succeed(host, 'vm.stop', { vm: name, force: true }, subject())
    assert.equal(stopped.forced, true)
    assert.equal((stopped.vm as { state: string }).state, 'stopped')
  })

  it('leaves nothing after its teardown, which may be asked for again', async () => {
    const first = await succeed(host, 'vm.teardown', { vm: name }, subject())
    assert.equal(first.existed, true)
    assert.ok((first.removed as string[]).includes(`definition ${name}`))
    assert.deepEqual(await leftoversOf(host, setup), [])
    assert.equal(existsSync(join(setup.config.runtimeDirectory, 'console', `${uuid}.log`)), false)
    const again = await succeed(host, 'vm.teardown', { vm: name }, subject())
    const { vm, removed, existed } = again
    assert.deepEqual({ vm, removed, existed }, { vm: name, removed: [], existed: false })
  })

  it('does not touch a domain of somebody else that has its name', async () => {
    const path = join(fixture.directory, 'foreign.xml')
    const os = "<os><type arch='x86_64' machine='q35'>hvm</type></os>"
    await writeFile(path, `<domain type='qemu'><name>${name}</name><memory>65536</memory>${os}</domain>`)
    await fixture.virsh('define', path)
    const definition = await fixture.virsh('dumpxml', name)
    const specification = guestSpecification({ name, uuid })
    const calls = [
      ['vm.provision', { specification }],
      ['vm.start', { vm: name }],
      ['vm.stop', { vm: name, force: true }],
      ['vm.teardown', { vm: name }]
    ] as const
    for (const [verb, args] of calls) {
      const outcome = await carry(host, verb, args, subject())
      assert.equal(outcome.outcome === 'failed' && outcome.error.code, 'E_CONFLICT', verb)
    }
    assert.equal(await fixture.virsh('dumpxml', name), definition)
    await fixture.virsh('undefine', name)
    assert.deepEqual(await leftoversOf(host, setup), [])
  })
})
