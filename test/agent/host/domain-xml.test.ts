// The machine that a VM gets, as its XML says.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { domainXml } from '../../../src/agent/host/domain-xml.ts'
import type { Placement, VmDefinition } from '../../../src/agent/host/hypervisor.ts'
import { readMetadata } from '../../../src/agent/host/metadata.ts'
import { reshapedXml } from '../../../src/agent/host/reshape-xml.ts'
import { find, findAll, readXml, type XmlNode } from '../../../src/agent/host/xml-read.ts'
import type { VmSpecification } from '../../../src/protocol/vm.ts'

const sha256 = 'a'.repeat(64)
const environment = {
  accelerator: 'tcg',
  pool: { name: 'hostlet', path: '/pool' },
  qemuGid: 64055,
  consoleDirectory: '/run/hostlet/console'
} as const

describe('domain XML', () => {
  it('keeps VMs apart: a user each, an isolated port, a base that is never relabelled', () => {
    const domain = parsed({})
    const label = find(domain, 'seclabel')
    assert.deepEqual({ ...label?.attributes }, { type: 'static', model: 'dac', relabel: 'yes' })
    assert.equal(find(label, 'label')?.text, '+1900000007:+64055')
    assert.equal(find(domain, 'devices', 'interface', 'port')?.attributes.isolated, 'yes')
    const base = find(domain, 'devices', 'disk', 'backingStore')
    assert.equal(find(base, 'source')?.attributes.file, `/pool/base-${sha256}.qcow2`)
    assert.deepEqual({ ...find(base, 'source', 'seclabel')?.attributes }, { model: 'dac', relabel: 'no' })
    assert.ok(find(base, 'backingStore'), 'the chain ends with the base')
  })

  it('names no base below a root disk that stands alone', () => {
    const { placement } = definition({})
    const domain = readXml(
      domainXml({ ...definition({}), placement: { ...placement, rootStandsAlone: true } }, environment)
    )
    const [root] = findAll(find(domain, 'devices'), 'disk')
    assert.equal(find(root, 'target')?.attributes.dev, 'vda')
    assert.deepEqual(find(root, 'backingStore')?.children, [])
  })

  it("has no way in or out besides disks, network, serial port and the guest's agent", () => {
    const names = new Set(find(parsed({}), 'devices')?.children.map((device) => device.name))
    for (const name of ['graphics', 'sound', 'input', 'hostdev', 'filesystem', 'redirdev', 'shmem'])
      assert.equal(names.has(name), false, name)
    const channels = findAll(find(parsed({}), 'devices'), 'channel').map((channel) => find(channel, 'target'))
    assert.deepEqual(
      channels.map((target) => target?.attributes.name),
      ['org.qemu.guest_agent.0']
    )
    const usb = findAll(find(parsed({}), 'devices'), 'controller').find(
      ({ attributes }) => attributes.type === 'usb'
    )
    assert.equal(usb?.attributes.model, 'none')
  })

  it("uses KVM with the host's processor, or emulates one that distributions accept", () => {
    assert.equal(parsed({}).attributes.type, 'qemu')
    assert.equal(find(parsed({}), 'cpu', 'model')?.text, 'Nehalem')
    const kvm = readXml(domainXml(definition({}), { ...environment, accelerator: 'kvm' }))
    assert.equal(kvm.attributes.type, 'kvm')
    assert.equal(find(kvm, 'cpu')?.attributes.mode, 'host-passthrough')
  })

  it('limits processor time where asked, and memory always', () => {
    assert.equal(find(parsed({}), 'cputune'), undefined)
    const limited = parsed({ cpuLimitPercent: 150 })
    assert.equal(find(limited, 'cputune', 'global_period')?.text, '100000')
    assert.equal(find(limited, 'cputune', 'global_quota')?.text, '150000')
    assert.equal(find(limited, 'memory')?.text, String(256 * 1024 ** 2))
  })

  it('keeps its memory out of core dumps, and apart from that of other VMs', () => {
    assert.equal(find(parsed({}), 'memory')?.attributes.dumpCore, 'off')
    assert.ok(find(parsed({}), 'memoryBacking', 'nosharepages'))
  })

  it('gives a VM the cores, the pages and the disk limits of its placement', () => {
    const with_ = (resources: Placement['resources'], changes: Partial<VmSpecification> = {}) => {
      const plain = definition(changes)
      const placement = { ...plain.placement, dataVolume: 'd.qcow2', ...(resources && { resources }) }
      return readXml(domainXml({ ...plain, placement }, environment))
    }
    const shared = with_({ shared: [0, 3], diskLimits: { operationsPerSecondMax: 50 } })
    assert.equal(find(shared, 'vcpu')?.attributes.cpuset, '0,3')
    assert.equal(find(shared, 'memtune'), undefined)
    for (const disk of findAll(find(shared, 'devices'), 'disk')) {
      assert.equal(find(disk, 'iotune', 'total_iops_sec')?.text, '50')
      assert.equal(find(disk, 'iotune', 'total_bytes_sec'), undefined)
    }
    const own = with_({
      pinned: [
        [1, 5],
        [2, 6],
        [3, 7]
      ],
      hugepages: true
    })
    const pins = findAll(find(own, 'cputune'), 'vcpupin').map(({ attributes }) => ({ ...attributes }))
    assert.deepEqual(pins, [
      { vcpu: '0', cpuset: '1,5' },
      { vcpu: '1', cpuset: '2,6' }
    ])
    assert.equal(find(own, 'cputune', 'emulatorpin')?.attributes.cpuset, '1,2,5,6')
    assert.ok(find(own, 'memoryBacking', 'hugepages'))
    assert.equal(find(with_(undefined), 'memoryBacking', 'hugepages'), undefined)
  })

  it('changes sizes and limits of a definition, and nothing else that libvirt has made of it', () => {
    const before = definition({ cpuLimitPercent: 50 })
    const resources = { shared: [1], diskLimits: { bytesPerSecondMax: 65_536 } }
    const source = domainXml(before, environment)
      .replace('</metadata>', '<other:x xmlns:other="urn:other">kept</other:x></metadata>')
      .replace('<vcpu ', '<currentMemory unit="KiB">65536</currentMemory><vcpu ')
      .replace('</devices>', '<channel type="spicevmc"><address type="pci" bus="0x05"/></channel></devices>')
    const metadata = {
      ...before,
      pool: 'hostlet',
      specification: { ...before.specification, cpus: 3 },
      placement: { ...before.placement, resources }
    }
    const after = readXml(reshapedXml(source, metadata))
    assert.equal(find(after, 'vcpu')?.text, '3')
    assert.equal(find(after, 'vcpu')?.attributes.cpuset, '1')
    assert.equal(find(after, 'currentMemory'), undefined)
    assert.equal(find(after, 'cputune', 'global_quota')?.text, '50000')
    assert.equal(find(after, 'metadata', 'other:x')?.text, 'kept')
    assert.equal(findAll(find(after, 'metadata'), 'hostlet:vm').length, 1)
    const devices = (node: XmlNode) =>
      find(node, 'devices')?.children.map((device) => ({
        ...device,
        children: device.children.filter(({ name }) => name !== 'iotune')
      }))
    assert.deepEqual(devices(after), devices(readXml(source)))
    const [root] = findAll(find(after, 'devices'), 'disk')
    assert.equal(find(root, 'iotune', 'total_bytes_sec')?.text, '65536')
    const others = (node: XmlNode) => node.children.map(({ name }) => name).toSorted()
    assert.deepEqual(
      others(after),
      others(readXml(source)).filter((name) => name !== 'currentMemory')
    )
  })

  it('logs the serial port only where asked, under a name that nobody chose', () => {
    assert.equal(find(parsed({}), 'devices', 'serial', 'log'), undefined)
    const log = find(parsed({ consoleLog: true }), 'devices', 'serial', 'log')
    assert.equal(log?.attributes.file, '/run/hostlet/console/0b54e6f2-6b53-4a3e-9d1c-0123456789ab.log')
  })

  it('attaches the seed on virtio-scsi, optional, and only where there is one', () => {
    const cds = (node: XmlNode) =>
      findAll(find(node, 'devices'), 'disk').filter(({ attributes }) => attributes.device === 'cdrom')
    assert.equal(cds(parsed({})).length, 0)
    const [cd] = cds(
      readXml(domainXml({ ...definition({}), seedPath: '/run/hostlet/seeds/x.iso' }, environment))
    )
    assert.deepEqual(
      { ...find(cd, 'source')?.attributes },
      { file: '/run/hostlet/seeds/x.iso', startupPolicy: 'optional' }
    )
    assert.deepEqual({ ...find(cd, 'target')?.attributes }, { dev: 'sda', bus: 'scsi' })
  })

  it('has a data disk without a backing file where asked', () => {
    const xml = domainXml(
      { ...definition({}), placement: { ...definition({}).placement, dataVolume: 'd.qcow2' } },
      environment
    )
    const [, data] = findAll(find(readXml(xml), 'devices'), 'disk')
    assert.equal(find(data, 'source')?.attributes.file, '/pool/d.qcow2')
    assert.deepEqual(find(data, 'backingStore')?.children, [])
  })

  it('carries the whole definition in its metadata, whatever its strings hold', () => {
    const sshAuthorizedKeys = ['ssh-rsa AAAA ]]> <hostlet:vm/> &lt; "\' \u2028']
    const domain = parsed({ seed: { sshAuthorizedKeys } })
    const metadata = find(domain, 'metadata', 'hostlet:vm')
    const read = readMetadata(`<vm>${escapeText(metadata?.text ?? '')}</vm>`, 'web-1')
    assert.deepEqual(read.specification.seed?.sshAuthorizedKeys, sshAuthorizedKeys)
    assert.equal(read.pool, 'hostlet')
    assert.deepEqual(read.placement, definition({}).placement)
  })

  it('says of metadata that it cannot read that it is not ours to touch', () => {
    for (const text of ['', '{', '{}', '{"specification":1}'])
      assert.throws(() => readMetadata(`<vm>${text}</vm>`, 'web-1'), { code: 'E_CORRUPT' })
    assert.throws(() => readMetadata('not XML', 'web-1'), { code: 'E_CORRUPT' })
  })
})

function parsed(changes: Partial<VmSpecification>): XmlNode {
  return readXml(domainXml(definition(changes), environment))
}

function definition(changes: Partial<VmSpecification>): VmDefinition {
  return {
    specification: {
      name: 'web-1',
      uuid: '0b54e6f2-6b53-4a3e-9d1c-0123456789ab',
      profile: 'starter',
      image: { url: 'https://images.test/a.qcow2', sha256, format: 'qcow2' },
      cpus: 2,
      memoryBytes: 256 * 1024 ** 2,
      rootDiskBytes: 1024 ** 3,
      ...changes
    },
    placement: {
      uid: 1_900_000_007,
      macAddress: '52:00:00:00:00:01',
      address: '10.90.0.2',
      network: 'hl-net',
      rootVolume: 'web-1.0b54e6f2.root.qcow2',
      dataVolume: null
    },
    generation: 3,
    wanted: 'stopped',
    seedPath: null
  }
}

function escapeText(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;')
}
