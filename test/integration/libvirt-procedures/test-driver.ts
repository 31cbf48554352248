// Procedures that need a guest OS, its agent or cgroups: libvirt's test driver plays those.

import assert from 'node:assert/strict'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { it } from 'node:test'
import { connectGetSysinfo } from '../../../src/node-libvirt/protocol/connect.ts'
import { addressSource, ipAddressType } from '../../../src/node-libvirt/protocol/constants/guest.ts'
import {
  bandwidthParameter,
  blkioParameter,
  blockIoTuneParameter,
  memoryParameter,
  memoryStatisticsTag,
  numaParameter,
  typedParameterFlag
} from '../../../src/node-libvirt/protocol/constants/parameters.ts'
import * as domains from '../../../src/node-libvirt/protocol/domain.ts'
import * as tuning from '../../../src/node-libvirt/protocol/domain-tuning.ts'
import * as agent from '../../../src/node-libvirt/protocol/guest-agent.ts'
import * as networks from '../../../src/node-libvirt/protocol/network.ts'
import * as node from '../../../src/node-libvirt/protocol/node.ts'
import type { Domain } from '../../../src/node-libvirt/protocol/objects.ts'
import * as statistics from '../../../src/node-libvirt/protocol/statistics.ts'
import type { Bench } from './bench.ts'
import { directory, makeDirectory, named } from './workshop.ts'

const mac = 'aa:bb:cc:dd:ee:ff'
const flags = typedParameterFlag.stringOkay
const parametersMax = 16

const nodeXml = `<node>
  <domain type='test'>
    <name>guest</name>
    <memory>8388608</memory><currentMemory>2097152</currentMemory>
    <vcpu current='1'>2</vcpu>
    <iothreads>1</iothreads>
    <os><type arch='i686'>hvm</type></os>
    <devices>
      <disk type='file' device='disk'><source file='/guest/disk1'/><target dev='vda' bus='virtio'/></disk>
      <interface type='network'>
        <mac address='${mac}'/><source network='default'/><target dev='testnet0'/>
      </interface>
      <channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>
      <memballoon model='virtio'/>
    </devices>
  </domain>
  <network>
    <name>default</name>
    <bridge name='virbr0'/>
    <ip address='192.168.122.1' netmask='255.255.255.0'>
      <dhcp><range start='192.168.122.128' end='192.168.122.253'/></dhcp>
    </ip>
  </network>
  <interface type='ethernet' name='eth1'><start mode='onboot'/><mac address='${mac}'/></interface>
</node>`

/** A test host described by a file is private to its connection; `test:///default` all clients share. */
export async function testHostUri(): Promise<string> {
  await makeDirectory()
  const path = join(directory, 'node.xml')
  await writeFile(path, nodeXml)
  return `test://${path}`
}

export function testDriverTests(bench: () => Bench): void {
  let domain: Domain

  it('finds its domain', async () => {
    ;({ domain } = await bench().exercise.ok(domains.domainLookupByName, { name: 'guest' }))
    assert.equal(domain.id, 1)
  })

  it('freezes, lists and thaws file systems', async () => {
    const { exercise } = bench()
    const { fileSystems, count } = await exercise.ok(agent.domainGetFsInfo, { domain, flags: 0 })
    assert.equal(fileSystems.length, count)
    assert.deepEqual(fileSystems[0], { mountPoint: '/', name: 'vda1', type: 'ext4', deviceAliases: ['vda'] })
    const mountPoints = fileSystems.map(({ mountPoint }) => mountPoint)
    assert.deepEqual(await exercise.ok(agent.domainFsFreeze, { domain, mountPoints, flags: 0 }), {
      fileSystems: 2
    })
    assert.deepEqual(await exercise.ok(agent.domainFsThaw, { domain, mountPoints: [], flags: 0 }), {
      fileSystems: 2
    })
    await exercise.ok(agent.domainFsTrim, { domain, mountPoint: '/', minimumBytes: 0, flags: 0 })
  })

  it('has addresses', async () => {
    const source = { domain, source: addressSource.lease, flags: 0 }
    const { interfaces } = await bench().exercise.ok(agent.domainInterfaceAddresses, source)
    const address = { type: ipAddressType.ipv4, address: '192.168.122.129', prefixBits: 24 }
    assert.deepEqual(interfaces, [{ name: 'testnet0', mac, addresses: [address] }])
  })

  it('has a host name and a clock', async () => {
    const { exercise } = bench()
    assert.deepEqual(await exercise.ok(domains.domainGetHostname, { domain, flags: 0 }), {
      hostname: 'guesthost'
    })
    assert.ok((await exercise.ok(domains.domainGetTime, { domain, flags: 0 })).seconds > 0n)
    await exercise.ok(domains.domainSetTime, { domain, seconds: 1_000_000_000n, nanoseconds: 0, flags: 0 })
  })

  it('has disk errors', async () => {
    const { exercise } = bench()
    const { count } = await exercise.ok(domains.domainGetDiskErrors, { domain, errorsMax: 0, flags: 0 })
    const { errors } = await exercise.ok(domains.domainGetDiskErrors, { domain, errorsMax: count, flags: 0 })
    assert.deepEqual(
      errors.map(({ disk }) => disk),
      ['vda']
    )
  })

  it('counts memory and CPU time of the guest', async () => {
    const { exercise } = bench()
    const { statistics: memory } = await exercise.ok(statistics.domainMemoryStats, {
      domain,
      statisticsMax: 16,
      flags: 0
    })
    assert.equal(memory.find(({ tag }) => tag === memoryStatisticsTag.balloon)?.value, 2_097_152n)
    const total = { domain, startCpu: -1, cpus: 1, flags: 0 }
    const { count } = await exercise.ok(statistics.domainGetCpuStats, { ...total, parametersMax: 0 })
    const { parameters } = await exercise.ok(statistics.domainGetCpuStats, { ...total, parametersMax: count })
    assert.deepEqual(Object.keys(named(parameters)).sort(), ['cpu_time', 'system_time', 'user_time'])
  })

  it('counts blocks and packets', async () => {
    const { exercise } = bench()
    assert.ok((await exercise.ok(statistics.domainBlockStats, { domain, path: 'vda' })).readBytes > 0n)
    assert.ok(
      (await exercise.ok(statistics.domainInterfaceStats, { domain, device: mac })).receivedBytes > 0n
    )
  })

  it('takes a weight', async () => {
    const { exercise } = bench()
    const { type, count } = await exercise.ok(tuning.domainGetSchedulerType, { domain })
    assert.deepEqual([type, count], ['fair', 1])
    await exercise.ok(tuning.domainSetSchedulerParameters, {
      domain,
      parameters: [{ field: 'weight', type: 'uint', value: 7 }]
    })
    const capacity = { domain, parametersMax: count }
    const old = await exercise.ok(tuning.domainGetSchedulerParameters, capacity)
    assert.deepEqual(Object.keys(named(old.parameters)), ['weight'])
  })

  it('takes limits of memory, disks and interfaces, and tells them again', async () => {
    const { exercise } = bench()
    const get = { domain, parametersMax, flags }
    const hardLimit = { field: memoryParameter.hardLimitKib, type: 'ullong', value: 9_000_000 } as const
    await exercise.ok(tuning.domainSetMemoryParameters, { domain, parameters: [hardLimit], flags: 0 })
    const memory = named((await exercise.ok(tuning.domainGetMemoryParameters, get)).parameters)
    assert.equal(memory[hardLimit.field], hardLimit.value)

    const weight = { field: blkioParameter.weight, type: 'uint', value: 300 } as const
    await exercise.ok(tuning.domainSetBlkioParameters, { domain, parameters: [weight], flags: 0 })
    const blkio = named((await exercise.ok(tuning.domainGetBlkioParameters, get)).parameters)
    assert.equal(blkio[weight.field], 300)
    assert.equal(blkio[blkioParameter.deviceWeight], '')

    const average = { field: bandwidthParameter.inboundAverage, type: 'uint', value: 1000 } as const
    const device = mac
    await exercise.ok(tuning.domainSetInterfaceParameters, {
      domain,
      device,
      parameters: [average],
      flags: 0
    })
    const bandwidth = await exercise.ok(tuning.domainGetInterfaceParameters, { ...get, device })
    assert.equal(named(bandwidth.parameters)[average.field], 1000)

    const nodeset = { field: numaParameter.nodeset, type: 'string', value: '0' } as const
    await exercise.ok(tuning.domainSetNumaParameters, { domain, parameters: [nodeset], flags: 0 })
    const numa = named((await exercise.ok(tuning.domainGetNumaParameters, get)).parameters)
    assert.equal(numa[nodeset.field], '0')
  })

  it('takes I/O limits in a group', async () => {
    const { exercise } = bench()
    const parameters = [
      { field: blockIoTuneParameter.totalIops, type: 'ullong', value: 500 },
      { field: blockIoTuneParameter.totalIopsMax, type: 'ullong', value: 800 },
      { field: blockIoTuneParameter.groupName, type: 'string', value: 'tenant' }
    ] as const
    await exercise.ok(tuning.domainSetBlockIoTune, { domain, disk: 'vda', parameters, flags: 0 })
    const get = { domain, disk: 'vda', parametersMax: 32, flags }
    const tune = named((await exercise.ok(tuning.domainGetBlockIoTune, get)).parameters)
    assert.equal(tune[blockIoTuneParameter.totalIops], 500)
    assert.equal(tune[blockIoTuneParameter.groupName], 'tenant')
  })

  it('sees where vCPUs run', async () => {
    const { exercise } = bench()
    const { vcpus, cpuMaps } = await exercise.ok(tuning.domainGetVcpus, { domain, vcpusMax: 2, mapBytes: 2 })
    assert.deepEqual([vcpus.length, vcpus[0]?.number, vcpus[0]?.state, cpuMaps.length], [1, 0, 1, 4])
  })

  it('has interfaces of the host', async () => {
    const { exercise } = bench()
    const found = await exercise.ok(networks.connectListAllInterfaces, { needResults: true, flags: 0 })
    assert.deepEqual(found, { interfaces: [{ name: 'eth1', mac }], count: 1 })
    const one = await exercise.ok(networks.interfaceLookupByName, { name: 'eth1' })
    assert.deepEqual(await exercise.ok(networks.interfaceLookupByMacString, { mac }), one)
    assert.deepEqual(await exercise.ok(networks.interfaceIsActive, one), { active: true })
    const { xml } = await exercise.ok(networks.interfaceGetXmlDesc, { ...one, flags: 0 })
    assert.match(xml, /name='eth1'/)
  })

  it('has firmware tables', async () => {
    assert.match(
      (await bench().exercise.ok(connectGetSysinfo, { flags: 0 })).sysinfo,
      /<sysinfo type='smbios'>/
    )
  })

  it('labels its guest', async () => {
    const { label, enforcing } = await bench().exercise.ok(node.domainGetSecurityLabel, { domain })
    assert.deepEqual([label, enforcing], ['libvirt-test', 1])
  })
}
