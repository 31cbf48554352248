// What the doctor reads of devices, routes, ports, limits, TPM, encrypted disks and versions.

import assert from 'node:assert/strict'
import { chmod, mkdir, readdir } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { describe, it } from 'node:test'
import { loadAgentConfig } from '../../../src/agent/config.ts'
import { faultsOf, knownFaults } from '../../../src/agent/doctor/known-faults.ts'
import * as capabilities from '../../../src/agent/doctor/readers/capabilities.ts'
import * as kernel from '../../../src/agent/doctor/readers/kernel.ts'
import * as network from '../../../src/agent/doctor/readers/network.ts'
import { poolSpace } from '../../../src/agent/doctor/readers/pools.ts'
import { clashingRoutes, overlaps } from '../../../src/agent/doctor/subnets.ts'
import { hostTree } from './host-tree.ts'

const wait = { signal: new AbortController().signal }

describe('readers of a host', () => {
  const tree = hostTree()
  const { put } = tree

  it('devices: bridges, and the hardware in them', async () => {
    await put('sys/class/net/hl-starter/bridge/bridge_id')
    await put('sys/class/net/hl-starter/brif/eth1/state')
    await put('sys/class/net/hl-starter/brif/vnet0/state')
    await put('sys/class/net/eth1/device/vendor')
    await put('sys/class/net/vnet0/ifindex')
    const found = await network.links(tree.root)
    assert.deepEqual(
      found.toSorted((one, other) => one.name.localeCompare(other.name)),
      [
        { name: 'eth1', isBridge: false, hardwarePorts: [] },
        { name: 'hl-starter', isBridge: true, hardwarePorts: ['eth1'] },
        { name: 'vnet0', isBridge: false, hardwarePorts: [] }
      ]
    )
  })

  it('routes: networks of devices and by gateways, without the default', async () => {
    await put(
      'proc/net/route',
      [
        'Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT',
        'eth0\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\t0\t0\t0',
        'eth0\t000200C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0',
        'eth0\t0000000A\tFE0200C0\t0003\t0\t0\t0\t000000FF\t0\t0\t0'
      ].join('\n')
    )
    assert.deepEqual(await network.routes(tree.root), [
      { device: 'eth0', network: '192.0.2.0/24', hasGateway: false },
      { device: 'eth0', network: '10.0.0.0/8', hasGateway: true }
    ])
  })

  it('networks that share an address, but for those of our own bridges', () => {
    const config = loadAgentConfig('config/agent.yaml', {})
    const route = (device: string, each: string) => ({ device, network: each, hasGateway: false })
    const clashes = clashingRoutes(config, [
      route('hl-starter', '10.83.0.0/20'),
      route('hl-p-12345678', '10.83.64.0/29'),
      route('vmbr1', '10.83.64.0/24'),
      route('eth0', '192.0.2.0/24')
    ])
    assert.deepEqual(
      clashes.map(({ profile, route: { device } }) => [profile, device]),
      [['premium', 'vmbr1']]
    )
    assert.equal(overlaps('10.83.0.0/20', '10.83.15.255/32'), true)
    assert.equal(overlaps('10.83.0.0/20', '10.83.16.0/20'), false)
    assert.equal(overlaps('10.0.0.0/8', '10.83.16.0/20'), true)
  })

  it('ports that are listened at, of both protocols, and those of outgoing connections', async () => {
    const head = '  sl  local_address rem_address   st tx_queue rx_queue\n'
    await put(
      'proc/net/tcp',
      `${head}   0: 0100007F:1F90 00000000:0000 0A 0:0\n   1: 0100007F:9C40 0100007F:1F90 01 0:0\n`
    )
    await put('proc/net/tcp6', `${head}   0: ${'0'.repeat(32)}:0016 ${'0'.repeat(32)}:0000 0A 0:0\n`)
    await put('proc/sys/net/ipv4/ip_local_port_range', '32768\t60999\n')
    assert.deepEqual(await network.listeningPorts(tree.root), [22, 8080])
    assert.deepEqual(await network.localPorts(tree.root), { first: 32_768, last: 60_999 })
  })

  it('limits, with those of the unit as its drop-ins have them', async () => {
    await put('proc/sys/kernel/pid_max', '32768\n')
    await put('proc/sys/fs/aio-nr', '12\n')
    await put('proc/sys/fs/aio-max-nr', '65536\n')
    await put('proc/sys/fs/inotify/max_user_instances', '128\n')
    await put('proc/sys/fs/file-nr', '1984\t0\t9223372036854775807\n')
    assert.equal((await capabilities.limits(tree.root)).agentFiles, undefined)
    await put('usr/lib/systemd/system/hostlet.service', '[Service]\nLimitNOFILE=16384\n')
    assert.equal((await capabilities.limits(tree.root)).agentFiles, 16_384)
    await put('etc/systemd/system/hostlet.service.d/files.conf', '[Service]\nLimitNOFILE=1024:2048\n')
    const { agentFiles, pidMax, aioInUse, aioMax, filesInUse } = await capabilities.limits(tree.root)
    assert.deepEqual([agentFiles, pidMax, aioInUse, aioMax, filesInUse], [2_048, 32_768, 12, 65_536, 1_984])
  })

  it('TPM: as systemd-creds says it, and nothing guessed from another form', () => {
    assert.deepEqual(capabilities.parseTpmSupport('partial\n-firmware\n+driver\n+system\n-subsystem\n'), {
      answer: 'partial',
      missing: ['firmware', 'subsystem']
    })
    assert.deepEqual(capabilities.parseTpmSupport('yes\n+firmware\n+driver\n'), {
      answer: 'yes',
      missing: []
    })
    assert.throws(
      () => capabilities.parseTpmSupport('', 'Unknown command verb has-tpm2.\n'),
      /Unknown command verb/
    )
  })

  it('programs that are missing', async () => {
    const directory = dirname(await put('bin/nft', '#!/bin/sh\n'))
    await put('bin/dnsmasq')
    await chmod(join(directory, 'nft'), 0o755)
    assert.deepEqual(await capabilities.missingPrograms(directory), ['qemu-img', 'genisoimage', 'dnsmasq'])
  })

  it('an encrypted disk is made on this very machine, and nothing of it stays', async (test) => {
    const missing = await capabilities.missingPrograms()
    if (missing.includes('qemu-img')) return test.skip('qemu-img is not installed')
    const directory = join(tree.root, 'memory')
    await mkdir(directory)
    const trial = await capabilities.luksTrial(wait, directory)
    assert.ok('tookMs' in trial, JSON.stringify(trial))
    assert.deepEqual(await readdir(directory), [])
  })

  it('distribution, memory and version of control groups', async () => {
    await put('etc/os-release', 'PRETTY_NAME="Debian"\nID=debian\nVERSION_ID="12"\n')
    assert.equal(await capabilities.distribution(tree.root), 'debian 12')
    await put('proc/meminfo', 'MemTotal:       16384 kB\nMemFree: 1 kB\n')
    assert.equal(await kernel.memoryBytes(join(tree.root, 'proc')), 16 * 1024 ** 2)
    await put('sys/fs/cgroup/memory/tasks')
    assert.equal(await kernel.cgroupVersion(join(tree.root, 'sys')), '1')
    await put('sys/fs/cgroup/unified/cgroup.controllers')
    assert.equal(await kernel.cgroupVersion(join(tree.root, 'sys')), 'both')
    await put('sys/fs/cgroup/cgroup.controllers')
    assert.equal(await kernel.cgroupVersion(join(tree.root, 'sys')), '2')
  })

  it('room of a directory, and none of one that is not there', async () => {
    const space = await poolSpace(tree.root)
    assert.ok(space && space.sizeBytes > 0 && space.freeBytes <= space.sizeBytes)
    assert.equal(await poolSpace(join(tree.root, 'none')), undefined)
  })
})

describe('known faults', () => {
  it('are told for their versions, the weightiest first', () => {
    assert.deepEqual(faultsOf('libvirt', '11.10.0'), [])
    assert.deepEqual(
      faultsOf('libvirt', '11.4.0').map(({ weight }) => weight),
      ['warning', 'note', 'note']
    )
    assert.deepEqual(
      faultsOf('libvirt', '9.0.0').map(({ weight }) => weight),
      ['note', 'note']
    )
    assert.equal(faultsOf('libvirt', '11.5.0').length, 2)
    assert.deepEqual(faultsOf('QEMU', '7.2.22'), [])
    assert.equal(faultsOf('QEMU', '6.2.0').length, 1)
    assert.deepEqual(faultsOf('QEMU', 'unknown'), [])
  })

  it('stand in the document, each', async () => {
    const { readFile } = await import('node:fs/promises')
    const document = await readFile('docs/doctor.md', 'utf8')
    for (const { what } of knownFaults)
      assert.ok(document.includes(`| ${what.slice(0, 20)}`) || what.startsWith('older'), what)
  })
})
