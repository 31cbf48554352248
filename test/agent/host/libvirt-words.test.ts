// What libvirt's numbers, counters and errors become here.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { ConnectionError, errorCode, LibvirtError } from 'node-libvirt'
import { capabilitiesIn } from '../../../src/agent/host/capabilities.ts'
import { countersOf } from '../../../src/agent/host/counters.ts'
import { lifecycleOf, stateOf } from '../../../src/agent/host/domain-state.ts'
import { fromLibvirt } from '../../../src/agent/host/libvirt-errors.ts'
import { trialDisk } from '../../../src/agent/host/trial-disk.ts'
import { uuidBytes, uuidText } from '../../../src/agent/host/uuid.ts'
import { HostletError } from '../../../src/errors.ts'

const uuid = '0b54e6f2-6b53-4a3e-9d1c-0123456789ab'

describe('states and events', () => {
  it('are words, and a machine that is off because it crashed is called crashed', () => {
    assert.deepEqual(stateOf({ state: 1, reason: 1 }), { state: 'running', reason: 'booted' })
    assert.deepEqual(stateOf({ state: 5, reason: 1 }), { state: 'stopped', reason: 'shutdown' })
    assert.deepEqual(stateOf({ state: 5, reason: 3 }), { state: 'crashed', reason: 'crashed' })
    assert.deepEqual(stateOf({ state: 3, reason: 5 }), { state: 'paused', reason: 'ioError' })
    assert.deepEqual(stateOf({ state: 99, reason: 99 }), { state: 'unknown', reason: 'unknown' })
    assert.deepEqual(lifecycleOf({ event: 2, detail: 0 }), { kind: 'started', detail: 'booted' })
    assert.deepEqual(lifecycleOf({ event: 5, detail: 2 }), { kind: 'crashed', detail: 'crashed' })
    assert.equal(lifecycleOf({ event: 99, detail: 0 }), undefined)
  })

  it('name VMs by UUIDs that survive the way through bytes', () => {
    assert.equal(uuidText(uuidBytes(uuid)), uuid)
  })
})

describe('the end of a wait', () => {
  it("is E_TIMEOUT by its own time, and the caller's error by the caller", () => {
    const ended = (cause: unknown) =>
      fromLibvirt(new ConnectionError('E_CANCELLED', 'was cancelled', { cause }), 'look')
    assert.equal(ended(new DOMException('late', 'TimeoutError')).code, 'E_TIMEOUT')
    assert.equal(ended(new HostletError('E_INTERRUPTED', 'the agent stops')).code, 'E_INTERRUPTED')
    assert.equal(ended(new DOMException('enough', 'AbortError')).code, 'E_CANCELLED')
  })
})

describe('counters', () => {
  it("are summed over disks and cards, without the seed's drive, in bytes", () => {
    const values = {
      'state.state': 1,
      'state.reason': 1,
      'cpu.time': 5_000_000_000n,
      'balloon.maximum': 1024,
      'balloon.rss': 512,
      'block.count': 3,
      'block.0.name': 'vda',
      'block.0.rd.bytes': 10,
      'block.0.capacity': 1000,
      'block.1.name': 'vdb',
      'block.1.rd.bytes': 5n,
      'block.1.capacity': 500,
      'block.2.name': 'sda',
      'block.2.rd.bytes': 1_000_000,
      'net.count': 1,
      'net.0.rx.bytes': 7,
      'net.0.rx.pkts': 3,
      'net.0.tx.pkts': 4,
      'net.0.rx.drop': 1,
      'net.0.tx.drop': 0
    }
    const parameters = Object.entries(values).map(([field, value]) => ({ field, value }))
    const counters = countersOf({ domain: { name: 'web-1', uuid: uuidBytes(uuid), id: 1 }, parameters })
    assert.deepEqual(counters, {
      name: 'web-1',
      uuid,
      state: 'running',
      cpuNanoseconds: 5_000_000_000,
      memoryMaximumBytes: 1024 ** 2,
      memoryResidentBytes: 512 * 1024,
      diskCapacityBytes: 1500,
      diskReadBytes: 15,
      receiveBytes: 7,
      receivePackets: 3,
      transmitPackets: 4,
      receiveDrops: 1,
      transmitDrops: 0
    })
  })

  it('are absent where libvirt did not tell', () => {
    const domain = { name: 'web-1', uuid: uuidBytes(uuid), id: -1 }
    assert.deepEqual(countersOf({ domain, parameters: [{ field: 'state.state', value: 5 }] }), {
      name: 'web-1',
      uuid,
      state: 'stopped'
    })
  })
})

describe('errors of libvirt', () => {
  it("keep libvirt's own code and get one of ours", () => {
    const error = fromLibvirt(answer(errorCode.noStorageVolume), 'find volume x')
    assert.equal(error.code, 'E_NOT_FOUND')
    assert.deepEqual(error.details, {
      libvirtCode: errorCode.noStorageVolume,
      libvirtDomain: 18,
      libvirtLevel: 2
    })
    assert.match(error.message, /^find volume x: /)
    assert.equal(fromLibvirt(answer(errorCode.operationFailed), 'x').code, 'E_LIBVIRT')
    assert.equal(fromLibvirt(answer(errorCode.noMemory), 'x').code, 'E_CAPACITY')
  })

  it('of the connection keep their meaning, and the reason of who gave up', () => {
    assert.equal(
      fromLibvirt(new ConnectionError('E_INTERRUPTED', 'lost', { sent: true }), 'x').code,
      'E_INTERRUPTED'
    )
    assert.equal(
      fromLibvirt(new ConnectionError('E_UNAVAILABLE', 'the connection is closed'), 'stop VM web-1').message,
      'stop VM web-1: the connection is closed. The agent connects again by itself; see "systemctl status libvirtd" on the host.'
    )
    assert.equal(fromLibvirt(new ConnectionError('E_BAD_REQUEST', 'encoding'), 'x').code, 'E_INTERNAL')
    const deadline = new HostletError('E_TIMEOUT', 'vm.start took longer than 5 ms')
    assert.equal(fromLibvirt(new ConnectionError('E_CANCELLED', 'gone', { cause: deadline }), 'x'), deadline)
    assert.equal(fromLibvirt(new TypeError('a bug'), 'x').code, 'E_INTERNAL')
  })
})

describe('capabilities', () => {
  const dac =
    "<secmodel><model>dac</model><doi>0</doi><baselabel type='kvm'>+64055:+108</baselabel></secmodel>"
  const xml = (host: string, guest: string) =>
    `<capabilities><host><cpu><arch>x86_64</arch></cpu>${host}</host><guest><arch name='i686'><domain type='kvm'/></arch></guest><guest><arch name='x86_64'>${guest}</arch></guest></capabilities>`

  it("tell the host's architecture, whether KVM is offered for it, and QEMU's group", () => {
    const none = '<secmodel><model>none</model></secmodel>'
    assert.deepEqual(capabilitiesIn(xml(none + dac, "<domain type='qemu'/><domain type='kvm'/>")), {
      architecture: 'x86_64',
      kvmOffered: true,
      qemuGid: 108
    })
    assert.equal(capabilitiesIn(xml(dac, "<domain type='qemu'/>")).kvmOffered, false)
  })

  it('are refused where VMs cannot have users of their own', () => {
    assert.throws(() => capabilitiesIn(xml('', '')), { code: 'E_UNSUPPORTED' })
  })
})

describe('disk of the trial', () => {
  it('is one that a BIOS boots', () => {
    const disk = trialDisk()
    assert.equal(disk.length, 1024 ** 2)
    assert.equal(disk.readUInt16LE(510), 0xaa55)
    assert.ok(disk.subarray(0, 446).some((byte) => byte !== 0))
    assert.ok(disk.subarray(512).every((byte) => byte === 0))
  })
})

function answer(code: number): LibvirtError {
  return new LibvirtError('libvirt said so', { code, domain: 18, level: 2, strings: [] })
}
