// Each item of the audit: yes on a machine as it should be, no for each way in which it is not, unknown for what nobody saw.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { answer, auditItems } from '../../../src/agent/audit/audit.ts'
import type { AuditFacts } from '../../../src/agent/audit/facts.ts'
import type { ProcessFacts } from '../../../src/agent/audit/process.ts'
import type { MachineInspection } from '../../../src/agent/host/inspection.ts'
import { profileOf } from '../../../src/agent/profiles.ts'
import type { AuditAnswer, AuditItem } from '../../../src/protocol/audit.ts'

const uuid = '0b54e6f2-6b53-4a3e-9d1c-0123456789ab'
const keyId = '11111111-6b53-4a3e-9d1c-0123456789ab'
const uid = 1_900_000_007
const mebibyte = 1024 ** 2

const process: ProcessFacts = {
  pid: 42,
  uids: [uid, uid, uid, uid],
  sameUser: [],
  effectiveCapabilities: '0000000000000000',
  noNewPrivileges: true,
  seccomp: 2,
  sandbox: 'on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny',
  ownMounts: true,
  label: 'libvirt-0b54e6f2 (enforce)',
  coreLimit: '0',
  processLimit: '1024',
  groupProcessLimit: undefined,
  listening: []
}

const disk = {
  target: 'vda',
  isCd: false,
  path: '/p',
  keyId,
  bytesPerSecondMax: 1_000_000,
  operationsPerSecondMax: 500
}
const inspection: MachineInspection = {
  running: true,
  autostart: false,
  devices: [
    { kind: 'disk', model: 'disk virtio' },
    { kind: 'controller', model: 'pci pcie-root-port' },
    { kind: 'input', model: 'keyboard ps2' },
    { kind: 'channel', model: 'unix virtio org.qemu.guest_agent.0' }
  ],
  disks: [disk, { ...disk, target: 'sda', isCd: true, path: null, keyId: null }],
  ports: [{ device: 'hl0123456789ab', macAddress: '52:00:00:00:00:01', network: 'net', isolated: true }],
  labels: { dac: `+${uid}:+64055` },
  serialLog: null,
  passesArguments: false,
  inCoreDumps: false,
  sharesPages: false,
  memoryBytes: 256 * mebibyte,
  vcpus: 2,
  cpuLimitPercent: 150,
  pins: [],
  cpuset: '0-3',
  memoryHardLimitBytes: undefined
}

const facts: AuditFacts = {
  vm: {
    specification: {
      name: 'web-1',
      uuid,
      profile: 'starter',
      image: { url: 'file:///i', sha256: 'a'.repeat(64), format: 'raw' },
      cpus: 2,
      cpuLimitPercent: 150,
      memoryBytes: 256 * mebibyte,
      rootDiskBytes: mebibyte
    },
    placement: {
      uid,
      macAddress: '52:00:00:00:00:01',
      address: '10.0.0.2',
      network: 'net',
      rootVolume: 'r',
      dataVolume: null,
      ...{ rootKey: keyId }
    },
    generation: 1,
    wanted: 'running',
    state: 'running',
    reason: 'booted',
    run: 1
  },
  profile: profileOf({
    network: 'net',
    bridge: 'hl-starter',
    subnet: '10.0.0.0/24',
    diskLimits: { bytesPerSecondMax: 1_000_000, operationsPerSecondMax: 500 }
  }),
  inspection,
  process,
  hostConfinement: ['apparmor'],
  rules: { bridge: true, inet: true },
  firewallFault: null,
  otherUids: [uid + 1]
}

const machine = (change: Partial<MachineInspection>) => ({ inspection: { ...inspection, ...change } })
const qemu = (change: Partial<ProcessFacts>) => ({ process: { ...process, ...change } })
const specified = (change: object) => ({
  vm: { ...facts.vm, specification: { ...facts.vm.specification, ...change } }
})
const device = (kind: string, model: string) => machine({ devices: [...inspection.devices, { kind, model }] })

/** Each item stands here with each way in which it is not so, and with what cannot be told. */
const changes: readonly (readonly [id: string, AuditAnswer, Partial<AuditFacts>])[] = [
  ['seccomp', 'no', qemu({ seccomp: 0 })],
  ['seccomp', 'no', qemu({ sandbox: undefined })],
  ['seccomp', 'no', qemu({ sandbox: 'on,obsolete=deny,spawn=allow' })],
  ['mount-namespace', 'no', qemu({ ownMounts: false })],
  ['mount-namespace', 'unknown', qemu({ ownMounts: undefined })],
  ['own-user', 'no', qemu({ uids: [uid, 0, uid, uid] })],
  ['own-user', 'no', qemu({ sameUser: [77] })],
  ['own-user', 'no', { otherUids: [uid] }],
  ['no-privileges', 'no', qemu({ effectiveCapabilities: '0000000000001000' })],
  ['no-privileges', 'no', qemu({ noNewPrivileges: false })],
  ['confinement', 'no', qemu({ label: 'unconfined' })],
  ['confinement', 'no', { ...qemu({ label: undefined }), hostConfinement: [] }],
  ['confinement', 'no', qemu({ label: undefined })],
  [
    'confinement',
    'unknown',
    { ...qemu({ label: undefined }), ...machine({ labels: { apparmor: 'libvirt-x' } }) }
  ],
  ['no-listening', 'no', qemu({ listening: ['tcp port 5900'] })],
  ['core-dumps', 'no', qemu({ coreLimit: 'unlimited' })],
  ['core-dumps', 'no', machine({ inCoreDumps: true })],
  ['process-limit', 'no', qemu({ processLimit: '96364' })],
  ['process-limit', 'no', qemu({ processLimit: 'unlimited' })],
  ['process-limit', 'unknown', qemu({ processLimit: 'unknown' })],
  ...['filesystem', 'shmem', 'hostdev', 'vsock'].map(
    (kind) => ['no-shared-folders', 'no', device(kind, 'x')] as const
  ),
  ['no-display', 'no', device('graphics', 'spice')],
  ['no-serial-log', 'no', machine({ serialLog: '/var/log/x' })],
  ...['tpm', 'sound', 'redirdev', 'hub', 'iommu', 'constructor'].map(
    (kind) => ['devices', 'no', device(kind, 'x')] as const
  ),
  ['devices', 'no', device('input', 'tablet usb')],
  ['devices', 'no', device('controller', 'usb qemu-xhci')],
  ['devices', 'no', device('channel', 'unix virtio org.somebody.else')],
  ['devices', 'no', machine({ passesArguments: true })],
  ['encrypted', 'no', machine({ disks: [{ ...disk, keyId: null }] })],
  ['encrypted', 'no', machine({ disks: [{ ...disk, keyId: uuid }] })],
  ['seed-gone', 'no', machine({ disks: [disk, { ...disk, isCd: true, path: '/run/hostlet/seeds/x.iso' }] })],
  ['autostart', 'no', machine({ autostart: true })],
  ['own-memory', 'no', machine({ sharesPages: true })],
  ['isolated-port', 'no', machine({ ports: [] })],
  ['isolated-port', 'no', port({ isolated: false })],
  ['isolated-port', 'no', port({ macAddress: '52:00:00:00:00:02' })],
  ['isolated-port', 'no', port({ network: 'default' })],
  ['firewall', 'no', { rules: { bridge: false, inet: true } }],
  ['firewall', 'no', { rules: { bridge: true, inet: false } }],
  ['firewall', 'unknown', { rules: { unreadable: 'nft: Operation not permitted' } }],
  ['network-policy', 'no', { firewallFault: 'the network rules were changed by somebody else' }],
  ['cpu', 'no', machine({ vcpus: 4 })],
  ['cpu', 'no', machine({ cpuLimitPercent: undefined })],
  ['cpu', 'no', { profile: { ...profile(), cpu: 'pinned' } }],
  ['cpu', 'unknown', { profile: undefined }],
  ['memory', 'no', machine({ memoryBytes: 512 * mebibyte })],
  ['disk-limits', 'no', machine({ disks: [{ ...disk, bytesPerSecondMax: undefined }] })],
  ['disk-limits', 'no', machine({ disks: [{ ...disk, operationsPerSecondMax: 5_000 }] })]
]

describe('items of the audit', () => {
  it('are all yes for a machine as it should be', () => {
    assert.deepEqual(
      answer(facts).filter((item) => item.answer !== 'yes'),
      []
    )
  })

  for (const [id, expected, change] of changes)
    it(`${id}: ${expected}, for ${reason(id, change)}`, () => {
      assert.equal(itemIn(answer({ ...facts, ...change }), id).answer, expected)
    })

  it('each has an id of its own and a no that is tried here', () => {
    const ids = auditItems.map(({ id }) => id)
    assert.equal(new Set(ids).size, ids.length)
    const tried = new Set(changes.flatMap(([id, expected]) => (expected === 'no' ? [id] : [])))
    assert.deepEqual(
      ids.filter((id) => !tried.has(id)),
      []
    )
  })

  it('about the process are unknown where it is hidden, not there, or off', () => {
    for (const change of [{ process: 'hidden' }, { process: 'none' }, machine({ running: false })] as const) {
      const items = answer({ ...facts, ...change })
      for (const id of [
        'seccomp',
        'mount-namespace',
        'own-user',
        'no-privileges',
        'confinement',
        'no-listening'
      ])
        assert.equal(itemIn(items, id).answer, 'unknown', id)
    }
  })

  it('take a serial log and cores that were asked for', () => {
    const logged = { ...specified({ consoleLog: true }), ...machine({ serialLog: '/run/x' }) }
    assert.equal(itemIn(answer({ ...facts, ...logged }), 'no-serial-log').answer, 'yes')
    const pinned = { profile: { ...profile(), cpu: 'pinned' as const }, ...machine({ pins: ['2', '3'] }) }
    assert.equal(itemIn(answer({ ...facts, ...pinned }), 'cpu').answer, 'yes')
  })
})

function itemIn(items: readonly AuditItem[], id: string): AuditItem {
  const found = items.find((each) => each.id === id)
  assert.ok(found, id)
  return found
}

/** As the item tells it, so that the list of tests reads as what is found out. */
function reason(id: string, change: Partial<AuditFacts>): string {
  return itemIn(answer({ ...facts, ...change }), id).why
}

function port(change: object): Partial<AuditFacts> {
  return machine({ ports: inspection.ports.map((each) => ({ ...each, ...change })) })
}

function profile() {
  assert.ok(facts.profile)
  return facts.profile
}
