// The facts of a host at which every check passes, to be changed one at a time.

import type { AgentConfig } from '../../../src/agent/config.ts'
import { loadAgentConfig } from '../../../src/agent/config.ts'
import type { DoctorFacts, Place } from '../../../src/agent/doctor/facts.ts'

export const config: AgentConfig = loadAgentConfig('config/agent.yaml', {})

export const onDisk: Place = {
  path: '/somewhere',
  mode: 0o40700,
  uid: 995,
  gid: 994,
  fileSystem: 'ext',
  inMemory: false,
  encrypted: false
}
export const inMemory: Place = { ...onDisk, fileSystem: 'tmpfs', inMemory: true, encrypted: undefined }

export function goodFacts(): DoctorFacts {
  const value = <Value>(known: Value) => ({ value: known })
  return {
    config: {
      ...config,
      reserve: { ...config.reserve, memoryBytes: 1024 ** 3 },
      profiles: { ...config.profiles, big: { ...profile(), hugepages: true } }
    },
    libvirt: value({
      libvirtVersion: '9.0.0',
      hypervisorVersion: '7.2.22',
      kvmOffered: true,
      securityModels: ['apparmor', 'dac'],
      vms: [{ name: 'web-1', autostart: false }],
      pools: [{ name: 'hostlet', state: 'running' }]
    }),
    distribution: value('debian 12'),
    missingPrograms: value([]),
    qemuPackage: value('1:7.2+dfsg-7+deb12u18+b3'),
    qemuConf: value({ max_processes: '1024', seccomp_sandbox: '1' }),
    daemonConf: value({ 'libvirtd.conf': { log_outputs: '"3:file:/var/log/libvirt/libvirtd.log"' } }),
    guestsService: value({ enabled: true, onShutdown: 'shutdown' }),
    kvm: value({ mode: 0o20666 }),
    nested: value(false),
    places: {
      logs: value({ ...inMemory, mode: 0o40770, uid: 0 }),
      keys: value(onDisk),
      runtime: value(inMemory),
      state: value(onDisk),
      pool: value({ ...onDisk, uid: 0, mode: 0o40711 })
    },
    poolAnswers: value([{ path: '/somewhere', answer: 'written' }]),
    poolSpace: value([
      {
        path: '/somewhere',
        sizeBytes: 100 * 1024 ** 3,
        freeBytes: 50 * 1024 ** 3,
        reservedBytes: 0,
        inodes: 1_000_000,
        inodesFree: 900_000,
        isRoot: false
      }
    ]),
    luks: value({ tookMs: 300 }),
    now: 100_000,
    identity: value({ hostId: 'kvm-1', from: 0, to: 1_000_000, fault: undefined, foreign: false }),
    scheduler: value([
      { url: 'https://sched-1:7443', fault: undefined, clockAheadMs: 300, proxyVariables: [] }
    ]),
    limits: value({
      agentFiles: 16_384,
      pidMax: 4_194_304,
      aioInUse: 10,
      aioMax: 65_536,
      inotifyInstancesMax: 128,
      filesInUse: 1_000,
      filesMax: 100_000
    }),
    links: value([
      { name: 'hl-starter', isBridge: true, hardwarePorts: [] },
      { name: 'vmbr0', isBridge: true, hardwarePorts: ['eth0'] }
    ]),
    routes: value([{ device: 'vmbr0', network: '192.0.2.0/24', hasGateway: false }]),
    listening: value([22, 8006]),
    localPorts: value({ first: 32_768, last: 60_999 }),
    memoryBytes: value(16 * 1024 ** 3),
    cgroupVersion: value('2'),
    tpmSupport: value({ answer: 'yes', missing: [] }),
    proxmox: value({
      version: '8.4.1',
      packages: { 'proxmox-ve': '8.4.0', 'pve-manager': '8.4.1', 'pve-qemu-kvm': '9.2.0-5' },
      storages: [{ type: 'dir', id: 'local', path: '/var/lib/vz', content: ['iso', 'backup'] }],
      guests: [],
      interfaces: [{ name: 'vmbr0', address: '192.0.2.10/24', isBridge: true }],
      firewall: {
        enabled: true,
        hostEnabled: true,
        policyIn: 'DROP',
        policyForward: 'ACCEPT',
        nftables: false,
        letsDhcpIn: true
      },
      haResources: [],
      arcBytesMax: 0
    }),
    logSpace: value({ sizeBytes: 100, freeBytes: 90 }),
    agentUser: value({ uid: 995, gid: 994 }),
    memoryImages: value([]),
    keyFiles: value([{ path: '/var/lib/hostlet/keys/a.json', mode: 0o100600 }]),
    credentials: value(['hostlet-host-key', 'hostlet-backup-key']),
    tpm: value(true),
    policy: value({ recoveryKeys: 1, repositories: 1, rules: ['3 of vm.teardown in 1h'] }),
    swap: value([{ name: '/dev/zram0', safe: true }]),
    hibernation: value(false),
    corePattern: value('|/lib/systemd/systemd-coredump %P'),
    lsm: value(['lockdown', 'apparmor']),
    cgroups: value(['cpu', 'cpuset', 'memory', 'io', 'pids']),
    ksm: value(false),
    smt: value(false),
    vulnerabilities: value([]),
    hugePages: value({ total: 512, free: 512 }),
    clockSynchronised: value(true),
    firewall: value({ objects: [], tables: ['inet hostlet', 'bridge hostlet'] }),
    bridgeNetfilter: value(false),
    ipForward: value(true),
    bridges: value([{ name: 'hl-starter', ipv6Disabled: true, ipv6Addresses: [] }]),
    leftovers: value({ at: 0, items: [] }),
    accountsInRange: value([])
  }
}

function profile(): AgentConfig['profiles'][string] {
  const { starter } = config.profiles
  if (starter === undefined) throw new Error('the sample has no starter')
  return starter
}
