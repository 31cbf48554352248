// Procedures of the connection and of the host, against QEMU's driver, with virsh as the second opinion.

import assert from 'node:assert/strict'
import { cpus, hostname } from 'node:os'
import { it } from 'node:test'
import * as connect from '../../../src/node-libvirt/protocol/connect.ts'
import { errorCode } from '../../../src/node-libvirt/protocol/constants/errors.ts'
import {
  connectFeature,
  cpuCompareResult,
  nodeAll
} from '../../../src/node-libvirt/protocol/constants/host.ts'
import { typedParameterFlag } from '../../../src/node-libvirt/protocol/constants/parameters.ts'
import * as node from '../../../src/node-libvirt/protocol/node.ts'
import type { Bench } from './bench.ts'
import { assertIncludes, elementText, named, virsh } from './workshop.ts'

const anyMachine = { emulator: null, architecture: 'x86_64', machine: 'q35', virtType: 'qemu' }

export function hostTests(bench: () => Bench): void {
  it('tells who it is', async () => {
    const { exercise } = bench()
    const { version } = await exercise.ok(connect.connectGetVersion, {})
    const dotted = [version / 1_000_000n, (version / 1_000n) % 1_000n, version % 1_000n].join('.')
    assertIncludes(await virsh('version'), `Running hypervisor: QEMU ${dotted}`)
    const { version: library } = await exercise.ok(connect.connectGetLibVersion, {})
    assert.ok(library >= 9_000_000n, `libvirt ${library}`)
    assert.deepEqual(await exercise.ok(connect.connectGetType, {}), { type: 'QEMU' })
    assert.equal(
      (await exercise.ok(connect.connectGetHostname, {})).hostname.split('.')[0],
      hostname().split('.')[0]
    )
    assert.deepEqual(await exercise.ok(connect.connectGetUri, {}), { uri: 'qemu:///system' })
    assert.deepEqual(await exercise.ok(connect.connectIsSecure, {}), { secure: true })
  })

  it('has the features that the client relies on', async () => {
    const { exercise } = bench()
    for (const feature of Object.values(connectFeature)) {
      assert.deepEqual(
        await exercise.ok(connect.connectSupportsFeature, { feature }),
        { supported: true },
        `${feature}`
      )
    }
    assert.deepEqual(await exercise.ok(connect.connectSupportsFeature, { feature: 12_345 }), {
      supported: false
    })
  })

  it('takes and drops a close callback', async () => {
    await bench().exercise.ok(connect.connectRegisterCloseCallback, {})
    await bench().exercise.ok(connect.connectUnregisterCloseCallback, {})
  })

  it('describes what it can do', async () => {
    const { exercise } = bench()
    const { capabilities } = await exercise.ok(connect.connectGetCapabilities, {})
    assert.equal(capabilities.trim(), await virsh('capabilities'))
    const machine = await exercise.ok(connect.connectGetDomainCapabilities, { ...anyMachine, flags: 0 })
    assertIncludes(machine.capabilities, '<domain>qemu</domain>', "<backup supported='yes'/>")
    assert.ok((await exercise.ok(connect.connectGetMaxVcpus, { type: 'qemu' })).vcpusMax > 0)
  })

  it('knows and compares CPUs', async () => {
    const { exercise } = bench()
    const models = await exercise.ok(connect.connectGetCpuModelNames, {
      architecture: 'x86_64',
      needResults: true,
      flags: 0
    })
    assert.equal(models.count, models.models.length)
    assert.ok(models.models.includes('qemu64'))
    const cpu = '<cpu><arch>x86_64</arch><model>qemu64</model></cpu>'
    const { result } = await exercise.ok(connect.connectCompareCpu, { xml: cpu, flags: 0 })
    assert.ok(Object.values<number>(cpuCompareResult).includes(result) && result >= 0, `${result}`)
    const baseline = await exercise.ok(connect.connectBaselineCpu, { xmlCpus: [cpu, cpu], flags: 0 })
    assert.equal(elementText(baseline.cpu, 'model'), 'qemu64')
    const hypervisor = { ...anyMachine, flags: 0 }
    await exercise.refused(
      connect.connectCompareHypervisorCpu,
      { ...hypervisor, xmlCpu: '<nonsense/>' },
      errorCode.xmlError,
      errorCode.operationUnsupported,
      errorCode.internalError
    )
    const guest = await exercise.ok(connect.connectBaselineHypervisorCpu, { ...hypervisor, xmlCpus: [cpu] })
    assertIncludes(guest.cpu, '<cpu')
  })

  it('counts its CPUs and their time', async () => {
    const { exercise } = bench()
    const info = await exercise.ok(node.nodeGetInfo, {})
    assert.equal(info.cpus, cpus().length)
    assertIncludes(await virsh('nodeinfo'), info.model, `${info.memoryKib} KiB`)
    const map = await exercise.ok(node.nodeGetCpuMap, { needMap: true, needOnline: true, flags: 0 })
    const bits = [...map.cpuMap].reduce((sum, byte) => sum + byte.toString(2).replaceAll('0', '').length, 0)
    assert.equal(bits, map.online)
    const all = { cpu: nodeAll, flags: 0 }
    const { count } = await exercise.ok(node.nodeGetCpuStats, { ...all, countMax: 0 })
    const { statistics } = await exercise.ok(node.nodeGetCpuStats, { ...all, countMax: count })
    assert.equal(statistics.length, count)
    const idle = statistics.find(({ name }) => name === 'idle')
    assert.ok(idle && idle.value > 0n)
  })

  it('counts its memory', async () => {
    const { exercise } = bench()
    const all = { cell: nodeAll, flags: 0 }
    const { count } = await exercise.ok(node.nodeGetMemoryStats, { ...all, countMax: 0 })
    const { statistics } = await exercise.ok(node.nodeGetMemoryStats, { ...all, countMax: count })
    const totalKib = statistics.find(({ name }) => name === 'total')?.value
    assert.ok(totalKib && totalKib > 0n)
    const { freeBytes } = await exercise.ok(node.nodeGetFreeMemory, {})
    assert.ok(freeBytes > 0n && freeBytes / 1024n < totalKib)
    const { cellsFreeBytes } = await exercise.ok(node.nodeGetCellsFreeMemory, { startCell: 0, cellsMax: 1 })
    assert.equal(cellsFreeBytes.length, 1)
    const pages = { pageSizesKib: [4], startCell: 0, cells: 1, flags: 0 }
    assert.equal((await exercise.ok(node.nodeGetFreePages, pages)).counts.length, 1)
  })

  it('reads same-page merging', async () => {
    const { exercise } = bench()
    const flags = typedParameterFlag.stringOkay
    const { count } = await exercise.ok(node.nodeGetMemoryParameters, { parametersMax: 0, flags })
    const { parameters } = await exercise.ok(node.nodeGetMemoryParameters, { parametersMax: count, flags })
    if (parameters.length > 0) assert.ok('shm_pages_to_scan' in named(parameters))
  })

  it('names its security model', async () => {
    const { model } = await bench().exercise.ok(node.nodeGetSecurityModel, {})
    assertIncludes(await virsh('capabilities'), `<model>${model}</model>`)
  })

  it('lists its devices', async () => {
    const { exercise } = bench()
    const { devices, count } = await exercise.ok(node.connectListAllNodeDevices, {
      needResults: true,
      flags: 0
    })
    assert.equal(devices.length, count)
    assert.ok((await exercise.ok(node.nodeNumOfDevices, { capability: null, flags: 0 })).count > 0)
    const { device } = await exercise.ok(node.nodeDeviceLookupByName, { name: 'computer' })
    assert.deepEqual(device, { name: 'computer' })
    assertIncludes(
      (await exercise.ok(node.nodeDeviceGetXmlDesc, { ...device, flags: 0 })).xml,
      '<name>computer</name>'
    )
    assert.deepEqual(await exercise.ok(node.nodeDeviceGetParent, device), { parent: null })
    assert.deepEqual(await exercise.ok(node.nodeDeviceListCaps, { ...device, namesMax: 8 }), {
      names: ['system']
    })
  })
}
