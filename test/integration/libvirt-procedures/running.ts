// Procedures of a domain that runs: states, counters, devices, tuning, console, its place in the network.

import assert from 'node:assert/strict'
import { it } from 'node:test'
import * as console_ from '../../../src/node-libvirt/protocol/console.ts'
import {
  deviceModifyFlag,
  domainControlState,
  domainCreateFlag,
  domainListFlag,
  domainRunningReason,
  domainState,
  modificationImpact,
  vcpuState
} from '../../../src/node-libvirt/protocol/constants/domain.ts'
import {
  diskChangeReason,
  domainEventType,
  trayChangeReason
} from '../../../src/node-libvirt/protocol/constants/domain-events.ts'
import { errorCode } from '../../../src/node-libvirt/protocol/constants/errors.ts'
import { addressSource } from '../../../src/node-libvirt/protocol/constants/guest.ts'
import {
  blockIoTuneParameter,
  statisticsFlag,
  statisticsGroup,
  typedParameterFlag
} from '../../../src/node-libvirt/protocol/constants/parameters.ts'
import * as domains from '../../../src/node-libvirt/protocol/domain.ts'
import * as devices from '../../../src/node-libvirt/protocol/domain-devices.ts'
import * as tuning from '../../../src/node-libvirt/protocol/domain-tuning.ts'
import { domainEvents } from '../../../src/node-libvirt/protocol/events.ts'
import * as agent from '../../../src/node-libvirt/protocol/guest-agent.ts'
import * as networks from '../../../src/node-libvirt/protocol/network.ts'
import * as node from '../../../src/node-libvirt/protocol/node.ts'
import * as nwfilters from '../../../src/node-libvirt/protocol/nwfilter.ts'
import type { Domain } from '../../../src/node-libvirt/protocol/objects.ts'
import * as statistics from '../../../src/node-libvirt/protocol/statistics.ts'
import * as storage from '../../../src/node-libvirt/protocol/storage.ts'
import type { Bench } from './bench.ts'
import { isOurs, mac } from './domain.ts'
import { volumeXml } from './storage.ts'
import {
  assertIncludes,
  bridgeName,
  directory,
  mebibyte,
  named,
  ourName,
  tapName,
  virsh
} from './workshop.ts'

export function runningTests(bench: () => Bench): void {
  let domain: Domain

  it('starts it paused and lets it run', async () => {
    const { exercise, recorder } = bench()
    ;({ domain } = await exercise.ok(domains.domainLookupByName, { name: ourName }))
    ;({ domain } = await exercise.ok(domains.domainCreateWithFlags, {
      domain,
      flags: domainCreateFlag.paused
    }))
    assert.ok(domain.id > 0)
    assert.equal((await exercise.ok(domains.domainGetState, { domain, flags: 0 })).state, domainState.paused)
    await exercise.ok(domains.domainResume, { domain })
    assert.deepEqual(await exercise.ok(domains.domainGetState, { domain, flags: 0 }), {
      state: domainState.running,
      reason: domainRunningReason.unpaused
    })
    assert.deepEqual((await exercise.ok(domains.domainLookupById, { id: domain.id })).domain, domain)
    await recorder.seen(
      domainEvents.lifecycle,
      (event) => isOurs(event) && event.event === domainEventType.started
    )
    await recorder.seen(
      domainEvents.diskChange,
      (event) => isOurs(event) && event.reason === diskChangeReason.missingOnStart
    )
  })

  it('pauses and resumes it', async () => {
    const { exercise } = bench()
    await exercise.ok(domains.domainSuspend, { domain })
    assert.equal((await exercise.ok(domains.domainGetState, { domain, flags: 0 })).state, domainState.paused)
    await exercise.ok(domains.domainResume, { domain })
  })

  it('lists it among the others', async () => {
    const { exercise } = bench()
    const filter = { needResults: true, flags: domainListFlag.running | domainListFlag.persistent }
    const { domains: listed, count } = await exercise.ok(domains.connectListAllDomains, filter)
    assert.equal(listed.length, count)
    assert.ok(listed.some(({ uuid }) => uuid.equals(domain.uuid)))
    const { ids } = await exercise.ok(domains.connectListDomains, { idsMax: 1024 })
    assert.ok(ids.includes(domain.id))
    assert.ok((await exercise.ok(domains.connectNumOfDomains, {})).count >= 1)
    const defined = await exercise.ok(domains.connectListDefinedDomains, { namesMax: 1024 })
    assert.ok(!defined.names.includes(ourName))
    assert.ok((await exercise.ok(domains.connectNumOfDefinedDomains, {})).count >= 0)
  })

  it('tells how it is', async () => {
    const { exercise } = bench()
    const info = await exercise.ok(domains.domainGetInfo, { domain })
    assert.deepEqual([info.state, info.vcpus, info.memoryMaxKib], [domainState.running, 1, 81_920n])
    const control = await exercise.ok(domains.domainGetControlInfo, { domain, flags: 0 })
    assert.equal(control.state, domainControlState.ok)
    assert.deepEqual(await exercise.ok(domains.domainGetDiskErrors, { domain, errorsMax: 8, flags: 0 }), {
      errors: [],
      count: 0
    })
    assert.ok(Array.isArray((await exercise.ok(domains.domainGetMessages, { domain, flags: 0 })).messages))
    assert.deepEqual(await exercise.ok(tuning.domainGetMaxVcpus, { domain }), { vcpusMax: 2 })
    const { labels, count } = await exercise.ok(node.domainGetSecurityLabelList, { domain })
    assert.equal(labels.length, count)
  })

  it('counts everything in one call', async () => {
    const { exercise } = bench()
    const groups =
      statisticsGroup.state | statisticsGroup.cpu | statisticsGroup.block | statisticsGroup.interface
    const one = { domains: [domain], groups, flags: statisticsFlag.noWait }
    const { statistics: records } = await exercise.ok(statistics.connectGetAllDomainStats, one)
    assert.equal(records.length, 1)
    const counters = named(records[0]?.parameters ?? [])
    assert.equal(counters['state.state'], domainState.running)
    assert.equal(counters['block.0.name'], 'vda')
    assert.equal(counters['net.0.name'], tapName)
    assertIncludes(
      await virsh('domstats', ourName, '--block'),
      `block.0.capacity=${counters['block.0.capacity']}`
    )
    const all = { domains: [], groups: 0, flags: statisticsFlag.running }
    const everyone = await exercise.ok(statistics.connectGetAllDomainStats, all)
    assert.ok(everyone.statistics.some((record) => record.domain.uuid.equals(domain.uuid)))
  })

  it('counts blocks, packets and memory', async () => {
    const { exercise } = bench()
    assert.ok((await exercise.ok(statistics.domainBlockStats, { domain, path: 'vda' })).readRequests >= 0n)
    const get = { domain, path: 'vda', flags: typedParameterFlag.stringOkay }
    const { count } = await exercise.ok(statistics.domainBlockStatsFlags, { ...get, parametersMax: 0 })
    const { parameters } = await exercise.ok(statistics.domainBlockStatsFlags, {
      ...get,
      parametersMax: count
    })
    assert.ok('rd_bytes' in named(parameters))
    assert.ok(
      (await exercise.ok(statistics.domainInterfaceStats, { domain, device: tapName })).sentBytes >= 0n
    )
    await exercise.ok(tuning.domainSetMemoryStatsPeriod, {
      domain,
      periodSeconds: 1,
      flags: modificationImpact.live
    })
    await exercise.ok(statistics.domainStartDirtyRateCalc, { domain, seconds: 1, flags: 0 })
  })

  it('sees, plugs and pins vCPUs', async () => {
    const { exercise } = bench()
    const { vcpus } = await exercise.ok(tuning.domainGetVcpus, { domain, vcpusMax: 2, mapBytes: 1 })
    assert.equal(vcpus[0]?.state, vcpuState.running)
    const cpuMap = Buffer.from([0b1])
    await exercise.ok(tuning.domainPinVcpu, { domain, vcpu: 0, cpuMap })
    await exercise.ok(tuning.domainPinVcpuFlags, { domain, vcpu: 0, cpuMap, flags: modificationImpact.live })
    const pins = await exercise.ok(tuning.domainGetVcpuPinInfo, { domain, mapsMax: 1, mapBytes: 1, flags: 0 })
    assert.deepEqual([pins.cpuMaps[0], pins.count], [0b1, 1])
    await exercise.ok(tuning.domainPinEmulator, { domain, cpuMap, flags: 0 })
    const emulator = await exercise.ok(tuning.domainGetEmulatorPinInfo, { domain, mapBytes: 1, flags: 0 })
    assert.deepEqual([emulator.cpuMaps[0], emulator.pinned], [0b1, 1])
    await bench().recorder.seen(
      domainEvents.tunable,
      (event) => isOurs(event) && 'cputune.vcpupin0' in named(event.parameters)
    )
    await exercise.ok(tuning.domainSetVcpus, { domain, vcpus: 2 })
    await exercise.refused(
      tuning.domainSetVcpu,
      { domain, vcpus: '1', state: 2, flags: 0 },
      errorCode.invalidArgument,
      errorCode.operationFailed
    )
  })

  it('adds, pins and removes I/O threads', async () => {
    const { exercise } = bench()
    const thread = { domain, id: 2, flags: modificationImpact.live }
    await exercise.ok(tuning.domainAddIoThread, thread)
    await exercise.ok(tuning.domainPinIoThread, { ...thread, cpuMap: Buffer.from([0b1]) })
    const parameters = [{ field: 'poll_max_ns', type: 'ullong', value: 1000 }] as const
    await exercise.ok(tuning.domainSetIoThreadParams, { ...thread, parameters })
    const { ioThreads, count } = await exercise.ok(tuning.domainGetIoThreadInfo, { domain, flags: 0 })
    assert.equal(count, 2)
    assert.equal(ioThreads.find(({ id }) => id === 2)?.cpuMap[0], 0b1)
    await exercise.ok(tuning.domainDelIoThread, thread)
  })

  it('sets the balloon and I/O limits', async () => {
    const { exercise, recorder } = bench()
    await exercise.ok(tuning.domainSetMemory, { domain, memoryKib: 60_000 })
    const parameters = [{ field: blockIoTuneParameter.totalIops, type: 'ullong', value: 1000 }] as const
    await exercise.ok(tuning.domainSetBlockIoTune, {
      domain,
      disk: 'vda',
      parameters,
      flags: modificationImpact.live
    })
    const event = await recorder.seen(
      domainEvents.tunable,
      (one) => isOurs(one) && 'blkdeviotune.disk' in named(one.parameters)
    )
    assert.equal(named(event.parameters)['blkdeviotune.disk'], 'vda')
    assert.equal(named(event.parameters)['blkdeviotune.total_iops_sec'], 1000)
  })

  it('plugs a disk in and out', async () => {
    const { exercise, recorder } = bench()
    const { pool } = await exercise.ok(storage.storagePoolLookupByName, { name: ourName })
    await exercise.ok(storage.storageVolCreateXml, {
      pool,
      xml: volumeXml('extra.raw', 'raw', mebibyte),
      flags: 0
    })
    const extra = (target: string) => `<disk type='file' device='disk'>
      <driver name='qemu' type='raw'/><source file='${directory}/extra.raw'/><target dev='${target}' bus='scsi'/></disk>`
    const flags = deviceModifyFlag.live
    const added = (alias: string) => (event: { domain: Domain; alias: string }) =>
      isOurs(event) && event.alias === alias
    await exercise.ok(devices.domainAttachDevice, { domain, xml: extra('sdb') })
    await recorder.seen(domainEvents.deviceAdded, added('scsi0-0-0-1'))
    await exercise.ok(devices.domainDetachDevice, { domain, xml: extra('sdb') })
    await recorder.seen(domainEvents.deviceRemoved, added('scsi0-0-0-1'))
    await exercise.ok(devices.domainAttachDeviceFlags, { domain, xml: extra('sdc'), flags })
    await exercise.ok(devices.domainDetachDeviceFlags, { domain, xml: extra('sdc'), flags })
    await recorder.seen(domainEvents.deviceRemoved, added('scsi0-0-0-2'))
    await exercise.ok(devices.domainAttachDeviceFlags, { domain, xml: extra('sdd'), flags })
    await exercise.ok(devices.domainDetachDeviceAlias, { domain, alias: 'scsi0-0-0-3', flags })
    await recorder.seen(domainEvents.deviceRemoved, added('scsi0-0-0-3'))
  })

  it('ejects a medium', async () => {
    const { exercise, recorder } = bench()
    const drive = (
      source: string
    ) => `<disk type='file' device='cdrom'><driver name='qemu' type='raw'/>${source}
      <target dev='sda' bus='scsi'/><readonly/></disk>`
    const flags = deviceModifyFlag.live
    const inserted = drive(`<source file='${directory}/extra.raw'/>`)
    await exercise.ok(devices.domainUpdateDeviceFlags, { domain, xml: inserted, flags })
    await exercise.ok(devices.domainUpdateDeviceFlags, { domain, xml: drive(''), flags })
    await recorder.seen(
      domainEvents.trayChange,
      (event) => isOurs(event) && event.reason === trayChangeReason.open
    )
  })

  it('says that no agent answers', async () => {
    const { exercise } = bench()
    const silent = errorCode.agentUnresponsive
    const command = '{"execute":"guest-ping"}'
    await exercise.refused(
      agent.domainQemuAgentCommand,
      { domain, command, timeoutSeconds: 1, flags: 0 },
      silent
    )
    await exercise.refused(agent.domainGetGuestInfo, { domain, types: 0, flags: 0 }, silent)
    await exercise.refused(tuning.domainGetGuestVcpus, { domain, flags: 0 }, silent)
    const addresses = { domain, source: addressSource.agent, flags: 0 }
    await exercise.refused(agent.domainInterfaceAddresses, addresses, silent)
    const timeout = { domain, timeoutSeconds: 5, flags: 0 }
    assert.deepEqual(await exercise.ok(agent.domainAgentSetResponseTimeout, timeout), { result: 0 })
  })

  it('talks to its serial console and its channel', async () => {
    const { exercise, connection } = bench()
    const console = await connection.duplex(console_.domainOpenConsole, { domain, device: null, flags: 1 })
    console.write('\r')
    exercise.streamed(console_.domainOpenConsole)
    const channel = await connection.duplex(console_.domainOpenChannel, {
      domain,
      name: 'hostlet.test',
      flags: 1
    })
    exercise.streamed(console_.domainOpenChannel)
    for (const stream of [console, channel]) stream.destroy()
    assert.equal((await exercise.ok(domains.domainIsActive, { domain })).active, true)
  })

  it('has a port in the network and a binding of its filter', async () => {
    const { exercise } = bench()
    const { network } = await exercise.ok(networks.networkLookupByName, { name: ourName })
    const { ports } = await exercise.ok(networks.networkListAllPorts, {
      network,
      needResults: true,
      flags: 0
    })
    assert.equal(ports.length, 1)
    const port = ports[0]
    assert.ok(port)
    assert.deepEqual(
      (await exercise.ok(networks.networkPortLookupByUuid, { network, uuid: port.uuid })).port,
      port
    )
    const { xml } = await exercise.ok(networks.networkPortGetXmlDesc, { port, flags: 0 })
    assertIncludes(xml, mac, bridgeName)
    const parameters = [{ field: 'inbound.average', type: 'uint', value: 5000 }] as const
    await exercise.ok(networks.networkPortSetParameters, { port, parameters, flags: 0 })
    const get = { port, parametersMax: 16, flags: 0 }
    const limits = named((await exercise.ok(networks.networkPortGetParameters, get)).parameters)
    assert.equal(limits['inbound.average'], 5000)
    const all = await exercise.ok(nwfilters.connectListAllNwfilterBindings, { needResults: true, flags: 0 })
    const binding = all.bindings.find(({ portDevice }) => portDevice === tapName)
    assert.deepEqual(binding, { portDevice: tapName, filterName: ourName })
    const found = await exercise.ok(nwfilters.nwfilterBindingLookupByPortDev, { portDevice: tapName })
    assert.deepEqual(found, { binding })
    const described = await exercise.ok(nwfilters.nwfilterBindingGetXmlDesc, { ...found, flags: 0 })
    assertIncludes(described.xml, mac)
    await exercise.ok(nwfilters.nwfilterBindingDelete, found)
    const again = await exercise.ok(nwfilters.nwfilterBindingCreateXml, { xml: described.xml, flags: 0 })
    assert.deepEqual(again, found)
  })

  it('adds and removes a port of no domain', async () => {
    const { exercise } = bench()
    const { network } = await exercise.ok(networks.networkLookupByName, { name: ourName })
    const xml = `<networkport><uuid>00000000-0000-4000-8000-000000000002</uuid><owner><name>nobody</name><uuid>00000000-0000-4000-8000-000000000001</uuid></owner>
      <mac address='52:54:00:00:00:43'/></networkport>`
    const made = await exercise.ok(networks.networkPortCreateXml, { network, xml, flags: 0 })
    await exercise.ok(networks.networkPortDelete, { ...made, flags: 0 })
    const uuid = made.port.uuid
    await exercise.refused(networks.networkPortLookupByUuid, { network, uuid }, errorCode.noNetworkPort)
  })
}
