// vm.audit on a real machine: yes where the product made it so, no where somebody changed it behind its back.

import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { createHash, randomUUID } from 'node:crypto'
import { chmod, mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { after, before, describe, it } from 'node:test'
import { readProcess } from '../../src/agent/audit/process.ts'
import type { Host } from '../../src/agent/host/host.ts'
import type { VmDefinition } from '../../src/agent/host/hypervisor.ts'
import { baseVolumeName, macAddressOf, rootVolumeName } from '../../src/agent/host/names.ts'
import type { AuditItem, VmAudit } from '../../src/protocol/audit.ts'
import { succeed } from '../agent/verbs/bench.ts'
import { haltingDisk, wait } from '../contract/hypervisor.contract.ts'
import { cannotRun, type LibvirtFixture, openLibvirtFixture } from '../contract/libvirt-fixture.ts'
import { hostOf, setupOf } from './provision-host.ts'

/** Of this machine, not of the VM: limits of qemu.conf, security modules, a firewall that the test has not. */
const ofTheMachine = ['confinement', 'process-limit', 'firewall', 'network-policy', 'encrypted']

describe('vm.audit', { skip: await cannotRun(), timeout: 300_000 }, () => {
  let fixture: LibvirtFixture
  let host: Host
  let vm: string
  const uuid = randomUUID()

  before(async () => {
    fixture = await openLibvirtFixture()
    host = await hostOf(fixture.hypervisor, setupOf(fixture))
    vm = `${fixture.prefix}-a`
    await define(fixture, vm, uuid)
    await fixture.hypervisor.start(vm, wait())
  })
  after(async () => {
    await host?.close()
    await fixture?.dispose()
  })

  it('answers yes for a machine that the product made', async () => {
    const items = await audit()
    const denied = items.filter(({ answer, id }) => answer !== 'yes' && !ofTheMachine.includes(id))
    assert.deepEqual(denied, [])
    assert.match(item(items, 'seccomp').why, /^-sandbox on,/)
    assert.match(item(items, 'own-user').why, new RegExp(`user ${fixture.uid}`))
  })

  it('answers no where a disk has no key, with the reason', async () => {
    const { answer, why } = item(await audit(), 'encrypted')
    assert.equal(answer, 'no')
    assert.match(why, /^vda can be read .*its profile does not ask for it$/)
  })

  it('finds the process by its UUID, as any user may', async () => {
    const found = await readProcess(uuid)
    assert.ok(typeof found === 'object')
    const cmdline = await readFile(`/proc/${found.pid}/cmdline`, 'utf8')
    assert.match(cmdline, new RegExp(vm))
    assert.equal(await readProcess(randomUUID()), 'none')
  })

  it('sees the same as a user without any rights', async (t) => {
    const module = join(import.meta.dirname, '../../src/agent/audit/process.ts')
    const script = `import { readProcess } from ${JSON.stringify(module)}; console.log(JSON.stringify(await readProcess('${uuid}')))`
    const nobody = ['--reuid=65534', '--regid=65534', '--clear-groups']
    const words = [...nobody, process.execPath, '--input-type=module', '-e', script]
    const { status, stdout } = spawnSync('setpriv', words, { encoding: 'utf8', cwd: '/' })
    if (status !== 0) return t.skip('nobody may not read the sources here')
    const seen = JSON.parse(stdout) as unknown
    assert.deepEqual(seen, JSON.parse(JSON.stringify(await readProcess(uuid))))
  })

  it('answers no for autostart', async () => {
    await fixture.virsh('autostart', vm)
    assert.deepEqual(denials(await audit()), ['autostart'])
    await fixture.virsh('autostart', vm, '--disable')
  })

  it('answers no for what was attached to the running machine', async () => {
    const path = join(fixture.directory, 'card.xml')
    const mac = macAddressOf(uuid, 7)
    const source = `<source network='${fixture.network.name}'/>`
    await writeFile(
      path,
      `<interface type='network'><mac address='${mac}'/>${source}<model type='e1000e'/></interface>`
    )
    await fixture.virsh('attach-device', vm, path, '--live')
    const items = await audit()
    assert.deepEqual(denials(items), ['devices', 'isolated-port'])
    assert.match(item(items, 'devices').why, /interface network e1000e/)
  })

  it('answers no for a definition that was changed: display, folder, log, label, core dumps, limits', async () => {
    await fixture.virsh('destroy', vm)
    await tamper()
    await fixture.virsh('start', vm)
    const items = await audit()
    const expected = [
      'own-user',
      'no-listening',
      'core-dumps',
      'no-shared-folders',
      'no-display',
      'no-serial-log',
      'devices',
      'own-memory',
      'isolated-port',
      'memory'
    ]
    assert.deepEqual(denials(items), expected)
    assert.match(item(items, 'no-listening').why, /^tcp port \d+/)
    assert.match(item(items, 'no-shared-folders').why, /filesystem/)
    assert.match(item(items, 'no-display').why, /graphics vnc/)
  })

  it('answers unknown, not yes, about the process of a machine that is off', async () => {
    await fixture.virsh('destroy', vm)
    const items = await audit()
    for (const id of ['seccomp', 'mount-namespace', 'own-user', 'no-privileges', 'no-listening']) {
      const { answer, why } = item(items, id)
      assert.deepEqual([answer, why], ['unknown', 'the VM is off'], id)
    }
  })

  async function audit(): Promise<VmAudit['items']> {
    const value = (await succeed(host, 'vm.audit', { vm })) as unknown as VmAudit
    assert.equal(value.vm, vm)
    return value.items
  }

  function denials(items: readonly AuditItem[]): string[] {
    return items.filter(({ answer, id }) => answer === 'no' && !ofTheMachine.includes(id)).map(({ id }) => id)
  }

  /** As root could with virsh edit. */
  async function tamper(): Promise<void> {
    const log = join(fixture.directory, 'run', 'serial.log')
    const shared = join(fixture.directory, 'shared')
    await mkdir(shared)
    await chmod(shared, 0o755)
    const devices =
      `<graphics type='vnc' port='-1' autoport='yes' listen='127.0.0.1'/>` +
      `<filesystem type='mount'><source dir='${shared}'/><target dir='host'/></filesystem>`
    const xml = (await fixture.virsh('dumpxml', '--inactive', vm))
      .replace('</devices>', `${devices}</devices>`)
      .replace("<serial type='pty'>", `<serial type='pty'><log file='${log}'/>`)
      .replace("dumpCore='off'", '')
      .replace('<nosharepages/>', '')
      .replace("<port isolated='yes'/>", '')
      .replace(/<memory( [^>]*)?>\d+<\/memory>/, "<memory unit='MiB'>96</memory>")
      .replace(/<currentMemory[\s\S]*?<\/currentMemory>/, '')
      .replaceAll(`+${fixture.uid}:`, `+${fixture.uid + 1}:`)
    const path = join(fixture.directory, 'tampered.xml')
    await writeFile(path, xml)
    await fixture.virsh('define', path)
  }
})

function item(items: readonly AuditItem[], id: string): AuditItem {
  const found = items.find((each) => each.id === id)
  assert.ok(found, id)
  return found
}

/** A machine that runs and does nothing. */
async function define(
  { hypervisor, network, uid }: LibvirtFixture,
  name: string,
  uuid: string
): Promise<void> {
  const content = haltingDisk()
  const sha256 = createHash('sha256').update(content).digest('hex')
  const image = { url: 'https://images.test/halting.img', sha256, format: 'raw' } as const
  const base = baseVolumeName(image)
  await hypervisor.uploadBase({ name: base, sizeBytes: content.length }, Readable.from([content]), wait())
  const rootVolume = rootVolumeName({ name, uuid })
  const capacityBytes = 8 * 1024 ** 2
  await hypervisor.createOverlay({ name: rootVolume, base, baseFormat: 'raw', capacityBytes }, wait())
  await hypervisor.ensureNetwork(network, wait())
  const address = network.subnet.replace(/0\/24$/, '10')
  const definition: VmDefinition = {
    specification: {
      name,
      uuid,
      profile: 'starter',
      image,
      cpus: 1,
      memoryBytes: 64 * 1024 ** 2,
      rootDiskBytes: capacityBytes
    },
    placement: {
      uid,
      macAddress: macAddressOf(uuid),
      address,
      network: network.name,
      rootVolume,
      dataVolume: null
    },
    generation: 1,
    wanted: 'running',
    seedPath: null
  }
  await hypervisor.define(definition, wait())
}
