// Every check of the doctor: passes on a good host, tells each fault with a fix, and guesses nothing of what cannot be read.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import type { Status } from '../../../src/agent/doctor/check.ts'
import { checkGroups, examine } from '../../../src/agent/doctor/checks.ts'
import type { DoctorFacts } from '../../../src/agent/doctor/facts.ts'
import { goodFacts, onDisk } from './good-facts.ts'

const messageCharactersMax = 160
const known = <Value>(value: Value) => ({ value })

const guest = {
  vmid: 100,
  kind: 'qemu' as const,
  memoryBytes: 1024 ** 3,
  startsAtBoot: true,
  bridges: ['vmbr0']
}

/** What is changed on the good host, and which check says what. Each check stands here with each of its bad verdicts. */
const faults: readonly (readonly [id: string, Status, Partial<DoctorFacts>])[] = [
  ['libvirt', 'failed', { libvirt: { unreadable: 'no socket' } }],
  ['qemu-nbd', 'failed', { qemuPackage: known('1:7.2+dfsg-7+deb12u7') }],
  ['qemu-nbd', 'failed', { qemuPackage: known('1:7.2+dfsg-7') }],
  [
    'qemu-nbd',
    'warning',
    { qemuPackage: known('1:8.2.2+ds-0ubuntu1.2'), ...libvirt({ hypervisorVersion: '8.2.2' }) }
  ],
  ['kvm', 'warning', { kvm: known(null) }],
  ['kvm', 'warning', libvirt({ kvmOffered: false })],
  ['kvm', 'failed', { kvm: known(null), config: { ...goodFacts().config, accelerator: 'kvm' } }],
  ['kvm-mode', 'failed', { kvm: known({ mode: 0o20660 }) }],
  ['nested', 'warning', { nested: known(true) }],
  ['autostart', 'failed', libvirt({ vms: [{ name: 'web-1', autostart: true }] })],
  ['confinement', 'failed', libvirt({ securityModels: ['dac'] })],
  ['confinement', 'warning', { ...libvirt({ securityModels: ['dac'] }), lsm: known([]) }],
  ['seccomp', 'failed', qemuConf({ seccomp_sandbox: '0' })],
  ['namespaces', 'failed', qemuConf({ namespaces: '[ ]' })],
  ['dynamic-ownership', 'failed', qemuConf({ dynamic_ownership: '0' })],
  ['capabilities', 'failed', qemuConf({ clear_emulator_capabilities: '0' })],
  ['qemu-user', 'failed', qemuConf({ user: '"root"' })],
  ['qemu-user', 'failed', qemuConf({ user: '"+0"' })],
  ['process-limit', 'warning', { qemuConf: known({}) }],
  ['cgroups', 'warning', { cgroups: known(['cpu', 'memory']) }],
  ['programs', 'failed', { missingPrograms: known(['nft']) }],
  ['libvirt-version', 'warning', libvirt({ libvirtVersion: '8.0.0' })],
  ['libvirt-version', 'warning', libvirt({ libvirtVersion: '11.3.0' })],
  ['qemu-version', 'warning', libvirt({ hypervisorVersion: '6.2.0' })],
  ['cgroup-version', 'warning', { cgroupVersion: known('1' as const) }],
  ['cgroup-version', 'warning', { cgroupVersion: known('both' as const) }],

  ['pools', 'failed', libvirt({ pools: [{ name: 'hostlet', state: 'stopped' }] })],
  ['pools', 'failed', libvirt({ pools: [{ name: 'hostlet', state: 'silent' }] })],
  ['pool-space', 'failed', poolSpace({ freeBytes: 1024 ** 3 })],
  ['pool-space', 'failed', poolSpace({ sizeBytes: 1024 ** 4, freeBytes: 30 * 1024 ** 3 })],
  ['pool-space', 'warning', poolSpace({ freeBytes: 10 * 1024 ** 3 })],
  ['pool-inodes', 'failed', poolSpace({ inodesFree: 10 })],
  ['pool-inodes', 'warning', poolSpace({ inodesFree: 30_000 })],
  ['pool-file-system', 'warning', poolSpace({ isRoot: true })],
  ['pool-file-system', 'warning', poolSpace({ reservedBytes: 5 * 1024 ** 3 })],

  ['bridges', 'failed', { links: known([{ name: 'hl-starter', isBridge: false, hardwarePorts: [] }]) }],
  ['bridges', 'failed', { links: known([{ name: 'hl-p-12', isBridge: true, hardwarePorts: ['eth1'] }]) }],
  ['subnets', 'failed', { routes: known([{ device: 'eth0', network: '10.83.1.0/24', hasGateway: false }]) }],
  ['subnets', 'warning', { routes: known([{ device: 'eth0', network: '10.0.0.0/8', hasGateway: true }]) }],
  ['ports', 'warning', { listening: known([22, 25_565]) }],
  ['ports', 'warning', { localPorts: known({ first: 1024, last: 60_999 }) }],

  ['identity', 'warning', { identity: known(null) }],
  ['identity', 'failed', identity({ foreign: true })],
  [
    'certificate',
    'failed',
    identity({ fault: "this host's certificate does not belong to its key. Enroll." })
  ],
  ['certificate', 'failed', identity({ to: 90_000, fault: "this host's certificate expired. Wait." })],
  ['certificate', 'warning', identity({ from: 0, to: 105_000 })],
  [
    'scheduler',
    'failed',
    scheduler([{ fault: `scheduler https://s:7443: ${'nothing listens '.repeat(20)}` }])
  ],
  ['scheduler', 'warning', scheduler([{}, { fault: 'its name is not known to DNS.' }])],
  ['clock-difference', 'failed', scheduler([{ clockAheadMs: -400_000 }])],
  ['clock-difference', 'warning', scheduler([{ clockAheadMs: 8_000 }])],

  ['luks', 'failed', { luks: known({ fault: 'Unknown driver luks' }) }],
  ['luks', 'warning', { luks: known({ tookMs: 20_000 }) }],
  [
    'tpm',
    'warning',
    { tpm: known(false), tpmSupport: known({ answer: 'no' as const, missing: ['driver'] }) }
  ],
  ['tpm', 'warning', { tpmSupport: known({ answer: 'partial' as const, missing: ['firmware'] }) }],
  ['file-limits', 'failed', limits({ agentFiles: 1024 })],
  ['libvirt-limits', 'warning', { daemonConf: known({ 'libvirtd.conf': { max_client_requests: '2' } }) }],
  ['kernel-limits', 'warning', limits({ pidMax: 32_768 })],
  ['kernel-limits', 'warning', limits({ aioInUse: 65_000 })],
  ['kernel-limits', 'warning', limits({ filesInUse: 95_000 })],
  ['kernel-limits', 'warning', limits({ inotifyInstancesMax: 16 })],

  ['pve-packages', 'failed', proxmox({ packages: { 'pve-qemu-kvm': '9.0' } })],
  ['pve-packages', 'failed', proxmox({ packages: { 'proxmox-ve': '8', 'qemu-utils': '7.2' } })],
  ['pve-bridges', 'failed', proxmox({ interfaces: [{ name: 'hl-starter', isBridge: true }] })],
  ['pve-bridges', 'failed', proxmox({ guests: [{ ...guest, bridges: ['hl-p-1'] }] })],
  [
    'pve-subnets',
    'failed',
    proxmox({ interfaces: [{ name: 'vmbr1', address: '10.83.0.1/24', isBridge: true }] })
  ],
  ['pve-firewall', 'failed', pveFirewall({ policyForward: 'DROP', nftables: true })],
  ['pve-firewall', 'failed', pveFirewall({ letsDhcpIn: false })],
  ['pve-storage', 'failed', pveStorage('/var/lib/vz/images/hostlet')],
  ['pve-storage', 'warning', pveStorage('/var/lib/vz/hostlet')],
  ['pve-ports', 'failed', ports(5_000, 9_000)],
  ['pve-memory', 'failed', proxmox({ guests: [{ ...guest, memoryBytes: 8 * 1024 ** 3 }] })],
  ['pve-memory', 'failed', proxmox({ arcBytesMax: 900 * 1024 ** 3 })],
  ['pve-cores', 'warning', proxmox({ guests: [guest] })],
  ['pve-ha', 'warning', proxmox({ haResources: ['100'] })],

  ['passphrases', 'failed', { places: { ...goodFacts().places, logs: known(onDisk) } }],
  [
    'log-removal',
    'warning',
    { places: { ...goodFacts().places, logs: known({ ...onDisk, uid: 0, gid: 0, mode: 0o755 }) } }
  ],
  ['log-removal', 'failed', { places: { ...goodFacts().places, logs: known({ ...onDisk, mode: 0o1777 }) } }],
  ['log-space', 'warning', { logSpace: known({ sizeBytes: 100, freeBytes: 5 }) }],
  ['daemon-logs', 'failed', { daemonConf: known({ 'libvirtd.conf': { log_level: '1' } }) }],
  ['daemon-logs', 'failed', { daemonConf: known({ 'virtqemud.conf': { log_filters: '"3:util 1:qemu"' } }) }],
  [
    'daemon-logs',
    'failed',
    { daemonConf: known({ 'libvirtd.conf': { log_outputs: '"1:file:/var/log/l.log"' } }) }
  ],
  ['swap', 'failed', { swap: known([{ name: '/dev/sda2', safe: false }]) }],
  ['hibernation', 'failed', { hibernation: known(true), swap: known([{ name: '/dev/sda2', safe: false }]) }],
  ['core-dumps', 'failed', qemuConf({ max_core: '"unlimited"' })],
  ['core-dumps', 'warning', { corePattern: known('|/usr/share/apport/apport %p') }],
  ['managed-save', 'failed', { guestsService: known({ enabled: true, onShutdown: 'suspend' }) }],
  ['managed-save', 'failed', { guestsService: known({ enabled: true, onShutdown: undefined }) }],
  ['managed-save', 'failed', qemuConf({ auto_shutdown_try_save: '"persistent"' })],
  ['memory-images', 'failed', { memoryImages: known(['/var/lib/libvirt/qemu/save/web-1.save']) }],
  ['runtime-directory', 'failed', { places: { ...goodFacts().places, runtime: known(onDisk) } }],
  [
    'state-file-system',
    'warning',
    { places: { ...goodFacts().places, state: known({ ...onDisk, fileSystem: 'btrfs' as const }) } }
  ],

  ['firewall', 'failed', { firewall: known({ objects: [], tables: ['inet hostlet'] }) }],
  ['firewall', 'warning', { firewall: known({ objects: [], tables: [] }), ...libvirt({ vms: [] }) }],
  ['foreign-chains', 'warning', { firewall: known({ objects: dropping(), tables: [] }) }],
  ['ip-forward', 'failed', { ipForward: known(false) }],
  ['br-netfilter', 'warning', { bridgeNetfilter: known(true) }],
  ['ipv6', 'failed', { bridges: known([{ name: 'hl-starter', ipv6Disabled: false, ipv6Addresses: [] }]) }],
  [
    'ipv6',
    'failed',
    { bridges: known([{ name: 'hl-starter', ipv6Disabled: true, ipv6Addresses: ['fe80'] }]) }
  ],

  [
    'state-directory',
    'failed',
    { places: { ...goodFacts().places, state: known({ ...onDisk, mode: 0o40750 }) } }
  ],
  ['state-directory', 'failed', { places: { ...goodFacts().places, state: known({ ...onDisk, uid: 0 }) } }],
  ['key-files', 'failed', { keyFiles: known([{ path: '/var/lib/hostlet/host-key.jwk', mode: 0o100644 }]) }],
  [
    'host-keys',
    'warning',
    { credentials: known([]), keyFiles: known([{ path: '/var/lib/hostlet/host-key.jwk', mode: 0o600 }]) }
  ],
  ['pool-directory', 'failed', pool({ uid: 1000 })],
  ['pool-directory', 'failed', pool({ mode: 0o40777 })],
  ['pool-directory', 'failed', pool({ mode: 0o40700 })],
  ['pool-directory', 'warning', pool({ mode: 0o40755 })],
  ['pool-answers', 'failed', { poolAnswers: known([{ path: '/srv/disks', answer: 'none' }]) }],
  ['policy', 'failed', { policy: known({ fault: 'policy.yaml:3:1: unknown key' }) }],
  ['policy', 'warning', { policy: known(null) }],
  ['policy', 'warning', { policy: known({ recoveryKeys: 1, repositories: 0, rules: [] }) }],
  ['command-rules', 'warning', { policy: known(null) }],
  ['command-rules', 'warning', { policy: known({ recoveryKeys: 1, repositories: 1, rules: [] }) }],
  ['recovery-key', 'warning', { policy: known({ recoveryKeys: 0, repositories: 0, rules: ['x'] }) }],
  ['recovery-key', 'warning', { policy: known(null) }],

  ['ksm', 'warning', { ksm: known(true) }],
  ['smt', 'warning', { smt: known(true) }],
  ['mitigations', 'warning', { vulnerabilities: known(['l1tf', 'mds']) }],
  ['huge-pages', 'failed', { hugePages: known({ total: 0, free: 0 }) }],
  ['clock', 'failed', { clockSynchronised: known(false) }],
  [
    'leftovers',
    'warning',
    { leftovers: known({ at: 0, items: [{ kind: 'key', name: 'k', verdict: 'ours', why: 'w' }] }) }
  ],
  ['vm-users', 'failed', { accountsInRange: known(['alice']) }]
]

describe('checks of the doctor', () => {
  it('all pass on a good host, an encrypted disk counting as memory does', () => {
    assert.deepEqual(
      examine(goodFacts()).filter(({ status }) => status !== 'ok'),
      []
    )
    const sealed = known({ ...onDisk, encrypted: true })
    const places = { ...goodFacts().places, logs: sealed, keys: sealed, runtime: sealed }
    const { status } = find(examine({ ...goodFacts(), places }), 'passphrases')
    assert.equal(status, 'ok')
  })

  it('QEMU logs on disk are no fault where the keys are in memory', () => {
    const { places } = goodFacts()
    const swapped = { ...places, logs: places.keys, keys: places.logs }
    assert.equal(find(examine({ ...goodFacts(), places: swapped }), 'passphrases').status, 'ok')
  })

  for (const [id, status, change] of faults)
    it(`${id}: ${status} with ${Object.keys(change).join(' and ')} changed, in a line and with a fix`, () => {
      const finding = find(examine({ ...goodFacts(), ...change }), id)
      assert.equal(finding.status, status, finding.message)
      assert.ok(finding.fix, 'a fix')
      if (finding.command !== undefined) assert.ok(finding.fix.startsWith(finding.command))
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
    const { config, now, places, ...rest } = goodFacts()
    const blind = Object.fromEntries(Object.keys(rest).map((key) => [key, unreadable]))
    const noPlaces = Object.fromEntries(Object.keys(places).map((key) => [key, unreadable]))
    const facts = { config, now, ...blind, places: noPlaces } as unknown as DoctorFacts
    const passed = examine(facts).filter(({ status }) => status === 'ok')
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

function poolSpace(change: object): Partial<DoctorFacts> {
  const good = goodFacts().poolSpace
  assert.ok('value' in good && good.value[0])
  return { poolSpace: known([{ ...good.value[0], ...change }]) }
}

function identity(change: object): Partial<DoctorFacts> {
  const good = goodFacts().identity
  assert.ok('value' in good && good.value)
  return { identity: known({ ...good.value, ...change }) }
}

function scheduler(changes: readonly object[]): Partial<DoctorFacts> {
  const good = { url: 'https://s:7443', fault: undefined, clockAheadMs: 0, proxyVariables: ['HTTPS_PROXY'] }
  return { scheduler: known(changes.map((change) => ({ ...good, ...change }))) }
}

function limits(change: object): Partial<DoctorFacts> {
  const good = goodFacts().limits
  assert.ok('value' in good)
  return { limits: known({ ...good.value, ...change }) }
}

function proxmox(change: object): Partial<DoctorFacts> {
  const good = goodFacts().proxmox
  assert.ok('value' in good && good.value)
  return { proxmox: known({ ...good.value, ...change }) }
}

function pveFirewall(change: object): Partial<DoctorFacts> {
  const good = goodFacts().proxmox
  assert.ok('value' in good && good.value)
  return proxmox({ firewall: { ...good.value.firewall, ...change } })
}

function pveStorage(path: string): Partial<DoctorFacts> {
  const { config } = goodFacts()
  return { config: { ...config, pool: { ...config.pool, path } } }
}

function ports(first: number, last: number): Partial<DoctorFacts> {
  const { config } = goodFacts()
  return { config: { ...config, network: { ...config.network, ports: { first, last } } } }
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
