// The firewall with libvirt and the kernel: in force before a machine's port is there, closed where it cannot be, back after a flush.

import assert from 'node:assert/strict'
import { execFile, spawnSync } from 'node:child_process'
import { createHash, randomUUID } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { Readable } from 'node:stream'
import { after, before, describe, it } from 'node:test'
import { promisify } from 'node:util'
import { networkDefaults } from '../../src/agent/firewall/create.ts'
import { systemLinks } from '../../src/agent/firewall/links.ts'
import { digestOf } from '../../src/agent/firewall/listing.ts'
import { objectsIn } from '../../src/agent/firewall/nft.ts'
import type { NftObject } from '../../src/agent/firewall/nft-json.ts'
import { BootRecord } from '../../src/agent/host/boot-record.ts'
import { createHost, type Host, type HostConfig } from '../../src/agent/host/host.ts'
import type { VmRecord } from '../../src/agent/host/hypervisor.ts'
import { baseVolumeName, portName } from '../../src/agent/host/names.ts'
import { profileOf } from '../../src/agent/profiles.ts'
import { systemClock } from '../../src/lib/clock.ts'
import { silentLogger } from '../../src/lib/log.ts'
import { haltingDisk } from '../contract/hypervisor.contract.ts'
import { cannotRun, type LibvirtFixture, openLibvirtFixture } from '../contract/libvirt-fixture.ts'

const run = promisify(execFile)
const content = haltingDisk()
const image = {
  url: 'https://images.test/halting.img',
  sha256: createHash('sha256').update(content).digest('hex'),
  format: 'raw'
} as const
const wait = () => ({ signal: AbortSignal.timeout(240_000) })
const skip =
  (await cannotRun()) || (spawnSync('nft', ['list', 'tables']).status === 0 ? false : 'nft is not allowed')

describe('the firewall on libvirt', { skip }, () => {
  let fixture: LibvirtFixture
  let host: Host
  let config: HostConfig

  before(async () => {
    fixture = await openLibvirtFixture()
    const { name, bridge, subnet } = fixture.network
    const own = { network: `${name}-own`, bridge: bridge.slice(0, 7), subnet: '10.254.77.0/28' }
    config = {
      stateDirectory: `${fixture.directory}/state`,
      runtimeDirectory: `${fixture.directory}/run`,
      profiles: {
        starter: profileOf({ network: name, bridge, subnet, encryption: false }),
        premium: profileOf({ ...own, ownBridge: true, encryption: false })
      },
      network: { ...networkDefaults, table: name, resolvers: ['198.51.100.53'] },
      vmUids: { first: fixture.uid, count: 16 },
      images: { allowFileUrls: [], cacheBytesMax: 1024 ** 3 },
      stop: { graceMs: 1_000 },
      readyTimeoutMs: 60_000
    }
    host = open()
    await host.prepare()
    const base = { name: baseVolumeName(image), format: 'raw', sizeBytes: content.length } as const
    await fixture.hypervisor.uploadBase(base, Readable.from([content]), wait())
  })
  after(async () => {
    await host?.close()
    await fixture?.dispose()
  })

  function open(): Host {
    const bootRecord = new BootRecord({ directory: config.runtimeDirectory })
    const common = { hostId: 'host-1', agentVersion: '0', clock: systemClock, log: silentLogger }
    return createHost({ ...common, config, hypervisor: fixture.hypervisor, bootRecord })
  }

  /** A machine that halts at once, off, with all that its start takes. */
  async function made(profile: string): Promise<VmRecord> {
    const uuid = randomUUID()
    const specification = {
      ...{ name: `${fixture.prefix}-${uuid.slice(0, 8)}`, uuid, profile, image },
      ...{ cpus: 1, memoryBytes: 64 * 1024 ** 2, rootDiskBytes: 1024 ** 2 }
    }
    await host.placements.claim({ specification, generation: 1, seedPath: null }, wait())
    const record = await host.hypervisor.findVm(specification.name, wait())
    assert.ok(record)
    await host.storage.createRootDisk(specification, record.placement, wait())
    return record
  }

  async function remove({ specification }: VmRecord): Promise<void> {
    await host.hypervisor.cutPower(specification.name, wait())
    await host.storage.removeDisks(specification, wait())
    await host.hypervisor.undefine(specification.name, wait())
    // Else they go in the middle of the next test.
    for (const { signal } = wait(); await hasRulesOf({ specification }); ) {
      signal.throwIfAborted()
      await systemClock.sleep(20, signal)
    }
  }

  async function rules(): Promise<readonly NftObject[]> {
    const listed = await Promise.all(
      ['inet', 'bridge'].map((family) =>
        run('nft', ['-j', 'list', 'table', family, fixture.prefix]).catch(() => undefined)
      )
    )
    return listed.flatMap((each) => (each === undefined ? [] : objectsIn(each.stdout)))
  }

  async function hasRulesOf({ specification }: Pick<VmRecord, 'specification'>): Promise<boolean> {
    const port = portName(specification.uuid)
    const chains = new Set((await rules()).map(({ chain }) => chain?.name))
    return [`from-${port}`, `to-${port}`, `out-${port}`, `in-${port}`].every((name) => chains.has(name))
  }

  it('stands before a machine starts, whose port then has the name that it is for', async () => {
    const record = await made('starter')
    let before: { rules: boolean; ports: number } | undefined
    using _gate = host.hypervisor.addStartGate(async () => {
      const ports = await systemLinks.portsOf(fixture.network.bridge)
      before = { rules: await hasRulesOf(record), ports: ports.length }
    })
    try {
      await host.vms.start(record, wait())
      assert.deepEqual(before, { rules: true, ports: 0 })
      const [port] = await systemLinks.portsOf(fixture.network.bridge)
      assert.equal(port?.name, portName(record.specification.uuid))
      assert.equal(port?.macAddress.slice(2), record.placement.macAddress.slice(2))
      const isolated = `/sys/class/net/${port?.name}/brport/isolated`
      assert.equal((await readFile(isolated, 'utf8')).trim(), '1')
    } finally {
      await remove(record)
    }
  })

  it('keeps a machine off where nft refuses its rules', async () => {
    const record = await made('starter')
    const { PATH } = process.env
    try {
      // As where the package is not installed.
      process.env.PATH = fixture.directory
      await assert.rejects(host.vms.start(record, wait()), {
        code: 'E_UNAVAILABLE',
        message: /not in force.*nft/
      })
      process.env.PATH = PATH
      assert.equal((await host.hypervisor.findVm(record.specification.name, wait()))?.state, 'stopped')
      assert.deepEqual(await systemLinks.portsOf(fixture.network.bridge), [])
    } finally {
      process.env.PATH = PATH
      await remove(record)
    }
  })

  it('returns after its tables are deleted or a rule of them is, and outlives the agent', async () => {
    const record = await made('starter')
    try {
      await host.vms.start(record, wait())
      const port = portName(record.specification.uuid)
      const blows = [
        ['delete', 'table', 'inet', fixture.prefix],
        ['delete', 'table', 'bridge', fixture.prefix],
        ['flush', 'chain', 'bridge', fixture.prefix, `from-${port}`],
        ['insert', 'rule', 'inet', fixture.prefix, 'forward', 'accept'],
        ['delete', 'element', 'bridge', fixture.prefix, 'from', `{ ${port} : goto from-${port} }`]
      ]
      for (const blow of blows) {
        const whole = await digest()
        await run('nft', blow)
        for (const { signal } = wait(); (await digest()) !== whole; ) {
          signal.throwIfAborted()
          await systemClock.sleep(20, signal)
        }
      }
      await host.close()
      assert.ok(await hasRulesOf(record))
      host = open()
      await host.prepare()
    } finally {
      await remove(record)
    }
  })

  it('gives a machine a network to itself, without IPv6, and takes it away', async () => {
    const record = await made('premium')
    const { network, ownNetwork } = record.placement
    assert.ok(ownNetwork)
    try {
      await host.vms.start(record, wait())
      assert.ok(await hasRulesOf(record))
      const xml = await fixture.virsh('net-dumpxml', network)
      assert.match(xml, /dhcp-option=6,198\.51\.100\.53/)
      assert.match(xml, /dhcp-ignore-names/)
      const { bridge } = ownNetwork
      assert.equal((await readFile(`/proc/sys/net/ipv6/conf/${bridge}/disable_ipv6`, 'utf8')).trim(), '1')
      assert.equal((await readFile('/proc/sys/net/ipv4/ip_forward', 'utf8')).trim(), '1')
    } finally {
      await host.hypervisor.removeNetwork(network, wait())
      await remove(record)
    }
    assert.ok(!(await host.hypervisor.listNetworks(wait())).some(({ name }) => name === network))
  })

  it('takes a network of an agent before, which says nothing of resolvers, as it is until it is started anew', async () => {
    const { name, bridge } = { name: `${fixture.prefix}-old`, bridge: `${fixture.network.bridge}o` }
    const subnet = '10.254.78.0/24'
    await host.hypervisor.ensureNetwork({ name, bridge, subnet, resolvers: ['198.51.100.1'] }, wait())
    const lease = { macAddress: '52:00:00:00:00:07', address: '10.254.78.7' }
    await host.hypervisor.addReservation(name, { ...lease, vm: 'vm-7' }, wait())
    await host.hypervisor.ensureNetwork({ name, bridge, subnet, resolvers: ['198.51.100.2'] }, wait())
    assert.match(await fixture.virsh('net-dumpxml', name, '--inactive'), /dhcp-option=6,198\.51\.100\.2'/)
    assert.deepEqual(await host.hypervisor.listReservations(name, wait()), [lease])
    await host.hypervisor.removeNetwork(name, wait())
  })

  async function digest(): Promise<string> {
    return digestOf(await rules())
  }
})
