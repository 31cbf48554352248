// Every check of the doctor: passes on a good host, tells each fault with a fix, and guesses nothing of what cannot be read.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import type { Status } from '../../../src/agent/doctor/check.ts'
import { checkGroups, examine } from '../../../src/agent/doctor/checks.ts'
import type { DoctorFacts } from '../../../src/agent/doctor/facts.ts'
import { goodFacts, onDisk } from './good-facts.ts'

const messageCharactersMax = 160
const known = <Value>(value: Value) => ({ value })

/** What is changed on the good host, and which check says what. Each check stands here with each of its bad verdicts. */
const faults: readonly (readonly [id: string, Status, Partial<DoctorFacts>])[] = [
  ['libvirt', 'fail', { libvirt: { unreadable: 'no socket' } }],
  ['qemu-nbd', 'fail', { qemuPackage: known('1:7.2+dfsg-7+deb12u7') }],
  ['qemu-nbd', 'fail', { qemuPackage: known('1:7.2+dfsg-7') }],
  [
    'qemu-nbd',
    'warn',
    { qemuPackage: known('1:8.2.2+ds-0ubuntu1.2'), ...libvirt({ hypervisorVersion: '8.2.2' }) }
  ],
  ['kvm', 'warn', { kvm: known(null) }],
  ['kvm', 'warn', libvirt({ kvmOffered: false })],
  ['kvm', 'fail', { kvm: known(null), config: { ...goodFacts().config, accelerator: 'kvm' } }],
  ['kvm-mode', 'fail', { kvm: known({ mode: 0o20660 }) }],
  ['nested', 'warn', { nested: known(true) }],
  ['autostart', 'fail', libvirt({ vms: [{ name: 'web-1', autostart: true }] })],
  ['confinement', 'fail', libvirt({ securityModels: ['dac'] })],
  ['confinement', 'warn', { ...libvirt({ securityModels: ['dac'] }), lsm: known([]) }],
  ['seccomp', 'fail', qemuConf({ seccomp_sandbox: '0' })],
  ['namespaces', 'fail', qemuConf({ namespaces: '[ ]' })],
  ['dynamic-ownership', 'fail', qemuConf({ dynamic_ownership: '0' })],
  ['capabilities', 'fail', qemuConf({ clear_emulator_capabilities: '0' })],
  ['qemu-user', 'fail', qemuConf({ user: '"root"' })],
  ['qemu-user', 'fail', qemuConf({ user: '"+0"' })],
  ['process-limit', 'warn', { qemuConf: known({}) }],
  ['cgroups', 'warn', { cgroups: known(['cpu', 'memory']) }],

  ['passphrases', 'fail', { places: { ...goodFacts().places, logs: known(onDisk) } }],
  [
    'log-removal',
    'warn',
    { places: { ...goodFacts().places, logs: known({ ...onDisk, uid: 0, gid: 0, mode: 0o755 }) } }
  ],
  ['log-removal', 'fail', { places: { ...goodFacts().places, logs: known({ ...onDisk, mode: 0o1777 }) } }],
  ['log-space', 'warn', { logSpace: known({ sizeBytes: 100, freeBytes: 5 }) }],
  ['daemon-logs', 'fail', { daemonConf: known({ 'libvirtd.conf': { log_level: '1' } }) }],
  ['daemon-logs', 'fail', { daemonConf: known({ 'virtqemud.conf': { log_filters: '"3:util 1:qemu"' } }) }],
  [
    'daemon-logs',
    'fail',
    { daemonConf: known({ 'libvirtd.conf': { log_outputs: '"1:file:/var/log/l.log"' } }) }
  ],
  ['swap', 'fail', { swap: known([{ name: '/dev/sda2', safe: false }]) }],
  ['hibernation', 'fail', { hibernation: known(true), swap: known([{ name: '/dev/sda2', safe: false }]) }],
  ['core-dumps', 'fail', qemuConf({ max_core: '"unlimited"' })],
  ['core-dumps', 'warn', { corePattern: known('|/usr/share/apport/apport %p') }],
  ['managed-save', 'fail', { guestsService: known({ enabled: true, onShutdown: 'suspend' }) }],
  ['managed-save', 'fail', { guestsService: known({ enabled: true, onShutdown: undefined }) }],
  ['managed-save', 'fail', qemuConf({ auto_shutdown_try_save: '"persistent"' })],
  ['memory-images', 'fail', { memoryImages: known(['/var/lib/libvirt/qemu/save/web-1.save']) }],
  ['runtime-directory', 'fail', { places: { ...goodFacts().places, runtime: known(onDisk) } }],
  [
    'state-file-system',
    'warn',
    { places: { ...goodFacts().places, state: known({ ...onDisk, fileSystem: 'btrfs' as const }) } }
  ],

  ['firewall', 'fail', { firewall: known({ objects: [], tables: ['inet hostlet'] }) }],
  ['firewall', 'warn', { firewall: known({ objects: [], tables: [] }), ...libvirt({ vms: [] }) }],
  ['foreign-chains', 'warn', { firewall: known({ objects: dropping(), tables: [] }) }],
  ['ip-forward', 'fail', { ipForward: known(false) }],
  ['br-netfilter', 'warn', { bridgeNetfilter: known(true) }],
  ['ipv6', 'fail', { bridges: known([{ name: 'hl-starter', ipv6Disabled: false, ipv6Addresses: [] }]) }],
  ['ipv6', 'fail', { bridges: known([{ name: 'hl-starter', ipv6Disabled: true, ipv6Addresses: ['fe80'] }]) }],

  [
    'state-directory',
    'fail',
    { places: { ...goodFacts().places, state: known({ ...onDisk, mode: 0o40750 }) } }
  ],
  ['state-directory', 'fail', { places: { ...goodFacts().places, state: known({ ...onDisk, uid: 0 }) } }],
  ['key-files', 'fail', { keyFiles: known([{ path: '/var/lib/hostlet/host-key.jwk', mode: 0o100644 }]) }],
  [
    'host-keys',
    'warn',
    { credentials: known([]), keyFiles: known([{ path: '/var/lib/hostlet/host-key.jwk', mode: 0o600 }]) }
  ],
  ['pool-directory', 'fail', pool({ uid: 1000 })],
  ['pool-directory', 'fail', pool({ mode: 0o40777 })],
  ['pool-directory', 'fail', pool({ mode: 0o40700 })],
  ['pool-directory', 'warn', pool({ mode: 0o40755 })],
  ['pool-answers', 'fail', { poolAnswers: known([{ path: '/srv/disks', answer: 'none' }]) }],
  ['policy', 'fail', { policy: known({ fault: 'policy.yaml:3:1: unknown key' }) }],
  ['policy', 'warn', { policy: known(null) }],
  ['policy', 'warn', { policy: known({ recoveryKeys: 1, repositories: 0, rules: [] }) }],
  ['command-rules', 'warn', { policy: known(null) }],
  ['command-rules', 'warn', { policy: known({ recoveryKeys: 1, repositories: 1, rules: [] }) }],
  ['recovery-key', 'warn', { policy: known({ recoveryKeys: 0, repositories: 0, rules: ['x'] }) }],
  ['recovery-key', 'warn', { policy: known(null) }],

  ['ksm', 'warn', { ksm: known(true) }],
  ['smt', 'warn', { smt: known(true) }],
  ['mitigations', 'warn', { vulnerabilities: known(['l1tf', 'mds']) }],
  ['huge-pages', 'fail', { hugePages: known({ total: 0, free: 0 }) }],
  ['clock', 'fail', { clockSynchronised: known(false) }],
  [
    'leftovers',
    'warn',
    { leftovers: known({ at: 0, items: [{ kind: 'key', name: 'k', verdict: 'ours', why: 'w' }] }) }
  ],
  ['vm-users', 'fail', { accountsInRange: known(['alice']) }]
]

describe('checks of the doctor', () => {
  it('all pass on a good host, an encrypted disk counting as memory does', () => {
    assert.deepEqual(
      examine(goodFacts()).filter(({ status }) => status !== 'pass'),
      []
    )
    const sealed = known({ ...onDisk, encrypted: true })
    const places = { ...goodFacts().places, logs: sealed, keys: sealed, runtime: sealed }
    const { status } = find(examine({ ...goodFacts(), places }), 'passphrases')
    assert.equal(status, 'pass')
  })

  it('QEMU logs on disk are no fault where the keys are in memory', () => {
    const { places } = goodFacts()
    const swapped = { ...places, logs: places.keys, keys: places.logs }
    assert.equal(find(examine({ ...goodFacts(), places: swapped }), 'passphrases').status, 'pass')
  })

  for (const [id, status, change] of faults)
    it(`${id}: ${status} with ${Object.keys(change).join(' and ')} changed, in a line and with a fix`, () => {
      const finding = find(examine({ ...goodFacts(), ...change }), id)
      assert.equal(finding.status, status, finding.message)
      assert.ok(finding.fix, 'a fix')
      assert.ok(finding.message.length <= messageCharactersMax, finding.message)
      assert.doesNotMatch(finding.message + finding.fix, /\n|undefined|null/)
    })

  it('each has an id of its own and a fault that is tried here', () => {
    const ids = checkGroups.flatMap(({ checks }) => checks.map(({ id }) => id))
    assert.equal(new Set(ids).size, ids.length)
    const tried = new Set(faults.map(([id]) => id))
    // Whether nft may be asked is told by a skipped check alone.
    assert.deepEqual(
      ids.filter((id) => !tried.has(id)),
      ['nftables']
    )
  })

  it('skip what cannot be read, with the reason, and never pass it', () => {
    const unreadable = { unreadable: 'not permitted, run as root' }
    const { config, places, ...rest } = goodFacts()
    const blind = Object.fromEntries(Object.keys(rest).map((key) => [key, unreadable]))
    const noPlaces = Object.fromEntries(Object.keys(places).map((key) => [key, unreadable]))
    const facts = { config, ...blind, places: noPlaces } as unknown as DoctorFacts
    const passed = examine(facts).filter(({ status }) => status === 'pass')
    assert.deepEqual(
      passed.map(({ id }) => id),
      []
    )
  })

  it('are told in the documents, each with why', async () => {
    const { readFile } = await import('node:fs/promises')
    const document = await readFile('docs/doctor.md', 'utf8')
    const ids = checkGroups.flatMap(({ checks }) => checks.map(({ id }) => id))
    assert.deepEqual(
      ids.filter((id) => !document.includes(`| \`${id}\` |`)),
      []
    )
  })
})

function find(findings: ReturnType<typeof examine>, id: string) {
  const finding = findings.find((each) => each.id === id)
  assert.ok(finding, id)
  return finding
}

function libvirt(change: object): Partial<DoctorFacts> {
  const good = goodFacts().libvirt
  assert.ok('value' in good)
  return { libvirt: known({ ...good.value, ...change }) }
}

function qemuConf(change: Record<string, string>): Partial<DoctorFacts> {
  return { qemuConf: known(change) }
}

function pool(change: object): Partial<DoctorFacts> {
  return { places: { ...goodFacts().places, pool: known({ ...onDisk, uid: 0, mode: 0o40711, ...change }) } }
}

function dropping() {
  const chain = { family: 'ip', table: 'filter', name: 'FORWARD', hook: 'forward', policy: 'drop' }
  return [{ chain }]
}
