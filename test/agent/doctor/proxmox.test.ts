// What is read of Proxmox VE: files of its own forms, as its manual has them.

import assert from 'node:assert/strict'
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { reserveBeside } from '../../../src/agent/doctor/checks/proxmox.ts'
import {
  parseFirewall,
  parseGuest,
  parseInterfaces,
  parseStorages,
  proxmoxFacts
} from '../../../src/agent/doctor/readers/proxmox.ts'

const storageCfg = `dir: local
\tpath /var/lib/vz
\tcontent iso,vztmpl,backup

lvmthin: local-lvm
\tthinpool data
\tvgname pve
\tcontent rootdir,images

zfspool: tank
\tpool rpool/data
\tsparse

# gone
nfs: iso-templates
\tpath /mnt/pve/iso-templates
\tserver 192.0.2.5
\texport /space
\tcontent vztmpl
`

const interfaces = `auto lo
iface lo inet loopback

iface eno1 inet manual
iface eno2 inet manual

auto vmbr0
iface vmbr0 inet static
\taddress 192.0.2.10/24
\tgateway 192.0.2.1
\tbridge-ports eno1
\tbridge-stp off
\tbridge-fd 0
\tbridge-vlan-aware yes
\tbridge-vids 2-4094
iface vmbr0 inet6 static
\taddress 2001:db8::10/64

auto vmbr1
iface vmbr1 inet static
\taddress 10.83.0.1
\tnetmask 255.255.255.0
\tbridge_ports none # by its older name
#\taddress 10.9.9.9/24
\tpost-up iptables -t nat -A POSTROUTING -s '10.83.0.0/24' -o vmbr0 -j MASQUERADE

source /etc/network/interfaces.d/*
`

const guestConf = `agent: 1
boot: order=scsi0;net0
cores: 4
memory: 8192
name: db-1
net0: virtio=BC:24:11:00:00:01,bridge=vmbr0,firewall=1
net1: virtio=BC:24:11:00:00:02,bridge=hl-starter,tag=30
onboot: 1
ostype: l26
scsi0: local-lvm:vm-100-disk-0,iothread=1,size=32G
#description, line by line

[before-upgrade]
memory: 65536
net0: virtio=BC:24:11:00:00:01,bridge=vmbr9
`

const status = (name: string, version: string, state = 'installed') =>
  `Package: ${name}\nStatus: install ok ${state}\nVersion: ${version}\nDescription: x\n more\n`

describe('files of Proxmox VE', () => {
  it('storages: type, name, directory and content', () => {
    assert.deepEqual(parseStorages(storageCfg), [
      { type: 'dir', id: 'local', path: '/var/lib/vz', content: ['iso', 'vztmpl', 'backup'] },
      { type: 'lvmthin', id: 'local-lvm', content: ['rootdir', 'images'] },
      { type: 'zfspool', id: 'tank', content: [] },
      { type: 'nfs', id: 'iso-templates', path: '/mnt/pve/iso-templates', content: ['vztmpl'] }
    ])
  })

  it('interfaces: bridges with their addresses, however they are written', () => {
    assert.deepEqual(parseInterfaces(interfaces), [
      { name: 'lo', isBridge: false },
      { name: 'eno1', isBridge: false },
      { name: 'eno2', isBridge: false },
      { name: 'vmbr0', isBridge: true, address: '192.0.2.10/24' },
      { name: 'vmbr1', isBridge: true, address: '10.83.0.1/24' }
    ])
  })

  it('guests: what they are now, not what a snapshot was', () => {
    assert.deepEqual(parseGuest(100, 'qemu', guestConf), {
      vmid: 100,
      kind: 'qemu',
      memoryBytes: 8 * 1024 ** 3,
      startsAtBoot: true,
      bridges: ['vmbr0', 'hl-starter']
    })
    assert.equal(parseGuest(101, 'qemu', 'memory: current=2048,max=4096\n').memoryBytes, 2 * 1024 ** 3)
    const container = parseGuest(200, 'lxc', 'net0: name=eth0,bridge=vmbr1,ip=dhcp,type=veth\n')
    assert.deepEqual([container.memoryBytes, container.bridges], [512 * 1024 ** 2, ['vmbr1']])
  })

  it('firewall: off without a file, and what it lets through', () => {
    assert.equal(parseFirewall('', '').enabled, false)
    const on = parseFirewall(
      '[OPTIONS]\n\nenable: 1\npolicy_in: DROP\npolicy_forward: DROP\n\n[RULES]\n\nIN ACCEPT -p tcp -dport 22\n',
      '[OPTIONS]\n\nnftables: 1\n'
    )
    assert.deepEqual(on, {
      enabled: true,
      hostEnabled: true,
      policyIn: 'DROP',
      policyForward: 'DROP',
      nftables: true,
      letsDhcpIn: false
    })
    for (const rule of [
      'IN ACCEPT -p udp -dport 67 -sport 68',
      'IN DHCPfwd(ACCEPT)',
      'IN ACCEPT -p udp -dport 53,67'
    ])
      assert.equal(parseFirewall('', `[RULES]\n\n${rule}\n`).letsDhcpIn, true, rule)
    for (const rule of [
      '|IN ACCEPT -p udp -dport 67',
      'OUT ACCEPT -p udp -dport 67',
      'IN DROP -p udp -dport 67'
    ])
      assert.equal(parseFirewall('', `[RULES]\n\n${rule}\n`).letsDhcpIn, false, rule)
  })

  it('keeps memory for guests, ZFS and the host itself', () => {
    const guests = [parseGuest(100, 'qemu', guestConf), parseGuest(101, 'qemu', '')]
    assert.equal(reserveBeside({ guests, arcBytesMax: 4 * 1024 ** 3 }), 13.5 * 1024 ** 3)
  })
})

describe('a host with Proxmox VE', () => {
  let root: string
  before(async () => {
    root = await mkdtemp(join(tmpdir(), 'hostlet-pve-'))
  })
  after(() => rm(root, { recursive: true, force: true }))

  async function put(path: string, text: string): Promise<void> {
    const full = join(root, path)
    await mkdir(dirname(full), { recursive: true })
    await writeFile(full, text)
  }

  it('is none without its packages, whatever else is there', async () => {
    assert.equal(await proxmoxFacts(root), null)
    await put(
      'var/lib/dpkg/status',
      [status('bash', '5.2'), status('pve-manager', '8.0', 'config-files')].join('\n')
    )
    assert.equal(await proxmoxFacts(root), null)
  })

  it('cannot be told while its file system of configurations is not there', async () => {
    await put(
      'var/lib/dpkg/status',
      [status('pve-manager', '8.4.1'), status('pve-qemu-kvm', '9.2.0-5'), status('proxmox-ve', '8.4.0')].join(
        '\n'
      )
    )
    await assert.rejects(proxmoxFacts(root), /is pve-cluster running/)
  })

  it('is read whole', async () => {
    await put('etc/pve/storage.cfg', storageCfg)
    await put('etc/pve/qemu-server/100.conf', guestConf)
    await put('etc/pve/lxc/200.conf', 'memory: 1024\n')
    await put('etc/pve/qemu-server/notes.txt', '')
    await put('etc/network/interfaces', interfaces)
    await put(
      'etc/network/interfaces.d/sdn',
      'auto vnet1\niface vnet1\n\tbridge_ports none\n\taddress 10.5.0.1/24\n'
    )
    await put('etc/pve/ha/resources.cfg', 'vm: 100\n\tstate started\n\nct: 200\n\tgroup all\n')
    await put(
      'proc/spl/kstat/zfs/arcstats',
      '12 1 0x01 147 39984 1 2\nname type data\nc_max                           4    4294967296\n'
    )
    const facts = await proxmoxFacts(root)
    assert.ok(facts)
    assert.equal(facts.version, '8.4.1')
    assert.deepEqual(facts.packages, {
      'pve-manager': '8.4.1',
      'pve-qemu-kvm': '9.2.0-5',
      'proxmox-ve': '8.4.0'
    })
    assert.deepEqual(
      facts.guests.map(({ vmid, kind }) => [vmid, kind]),
      [
        [100, 'qemu'],
        [200, 'lxc']
      ]
    )
    assert.deepEqual(facts.haResources, ['100', '200'])
    assert.equal(facts.arcBytesMax, 4 * 1024 ** 3)
    assert.equal(facts.interfaces.find(({ name }) => name === 'vnet1')?.address, '10.5.0.1/24')
    assert.equal(facts.firewall.enabled, false)
  })
})
