// Procedures of a domain's life: QEMU without a guest OS, which never gets beyond its firmware.

import assert from 'node:assert/strict'
import { open } from 'node:fs/promises'
import { it } from 'node:test'
import {
  domainCreateFlag,
  domainDestroyFlag,
  domainLifecycle,
  domainLifecycleAction,
  domainMemoryFlag,
  domainShutdownFlag,
  domainShutOffReason,
  domainState,
  domainUndefineFlag,
  domainVcpuFlag,
  domainXmlFlag,
  metadataType,
  modificationImpact
} from '../../../src/node-libvirt/protocol/constants/domain.ts'
import {
  domainEventDetail,
  domainEventType,
  ioErrorAction
} from '../../../src/node-libvirt/protocol/constants/domain-events.ts'
import { errorCode } from '../../../src/node-libvirt/protocol/constants/errors.ts'
import {
  schedulerParameter,
  typedParameterFlag
} from '../../../src/node-libvirt/protocol/constants/parameters.ts'
import { volumeCreateFlag } from '../../../src/node-libvirt/protocol/constants/storage.ts'
import * as domains from '../../../src/node-libvirt/protocol/domain.ts'
import * as metadata from '../../../src/node-libvirt/protocol/domain-metadata.ts'
import * as tuning from '../../../src/node-libvirt/protocol/domain-tuning.ts'
import { domainEvents } from '../../../src/node-libvirt/protocol/events.ts'
import type { Domain } from '../../../src/node-libvirt/protocol/objects.ts'
import * as storage from '../../../src/node-libvirt/protocol/storage.ts'
import type { Bench } from './bench.ts'
import { volumeXml } from './storage.ts'
import { assertIncludes, directory, mebibyte, named, ourName, renamed, tapName, virsh } from './workshop.ts'

export const diskBytes = 16 * mebibyte
export const mac = '52:54:00:00:00:42'
const uri = 'https://example.org/hostlet-test'

const domainXml = `<domain type='qemu'>
  <name>${ourName}</name>
  <memory unit='MiB'>64</memory>
  <vcpu current='1'>2</vcpu>
  <iothreads>1</iothreads>
  <os><type arch='x86_64' machine='q35'>hvm</type></os>
  <features><acpi/></features>
  <cpu mode='custom' match='exact'><model>qemu64</model></cpu>
  <devices>
    <disk type='file' device='disk'>
      <driver name='qemu' type='qcow2'/>
      <source file='${directory}/disk.qcow2'/>
      <target dev='vda' bus='virtio'/>
    </disk>
    <disk type='file' device='cdrom'>
      <source file='${directory}/missing.iso' startupPolicy='optional'/>
      <target dev='sda' bus='scsi'/><readonly/>
    </disk>
    <controller type='scsi' model='virtio-scsi'/>
    <interface type='network'>
      <mac address='${mac}'/><source network='${ourName}'/><target dev='${tapName}'/>
      <model type='virtio'/><filterref filter='${ourName}'/><port isolated='yes'/>
    </interface>
    <serial type='pty'/>
    <channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>
    <channel type='unix'><target type='virtio' name='hostlet.test'/></channel>
    <memballoon model='virtio'/>
  </devices>
</domain>`

export const isOurs = ({ domain }: { domain: Domain }) => domain.name === ourName

export function definitionTests(bench: () => Bench): void {
  let domain: Domain

  it('defines a domain and finds it again', async () => {
    const { exercise, connection, recorder } = bench()
    const { pool } = await exercise.ok(storage.storagePoolLookupByName, { name: ourName })
    const { volume: source } = await exercise.ok(storage.storageVolCreateXml, {
      pool,
      xml: volumeXml('data.raw', 'raw', diskBytes),
      flags: 0
    })
    const transfer = { volume: source, offsetBytes: 0, lengthBytes: mebibyte, flags: 0 }
    await connection.upload(storage.storageVolUpload, transfer, [Buffer.alloc(mebibyte, 'data')])
    const disk = { pool, xml: volumeXml('disk.qcow2', 'qcow2', diskBytes), source, flags: 0 }
    await exercise.ok(storage.storageVolCreateXmlFrom, disk)
    ;({ domain } = await exercise.ok(domains.domainDefineXml, { xml: domainXml }))
    assert.deepEqual([domain.name, domain.id], [ourName, -1])
    assert.deepEqual((await exercise.ok(domains.domainLookupByName, { name: ourName })).domain, domain)
    assert.deepEqual((await exercise.ok(domains.domainLookupByUuid, { uuid: domain.uuid })).domain, domain)
    const added = (event: { event: number; detail: number; domain: Domain }) =>
      isOurs(event) &&
      event.event === domainEventType.defined &&
      event.detail === domainEventDetail.defined.added
    await recorder.seen(domainEvents.lifecycle, added)
  })

  it('defines it once more from its own description', async () => {
    const { exercise } = bench()
    const { xml } = await exercise.ok(domains.domainGetXmlDesc, { domain, flags: domainXmlFlag.inactive })
    assert.equal(xml.trim(), await virsh('dumpxml', ourName, '--inactive'))
    assert.deepEqual((await exercise.ok(domains.domainDefineXmlFlags, { xml, flags: 0 })).domain, domain)
    await exercise.refused(domains.domainDefineXmlFlags, { xml: '<domain', flags: 0 }, errorCode.xmlDetail)
  })

  it('is off, persistent and not started with the host', async () => {
    const { exercise } = bench()
    const state = await exercise.ok(domains.domainGetState, { domain, flags: 0 })
    assert.deepEqual(state, { state: domainState.shutOff, reason: domainShutOffReason.unknown })
    assert.deepEqual(await exercise.ok(domains.domainIsActive, { domain }), { active: false })
    assert.deepEqual(await exercise.ok(domains.domainIsPersistent, { domain }), { persistent: true })
    assert.deepEqual(await exercise.ok(domains.domainIsUpdated, { domain }), { updated: false })
    assert.deepEqual(await exercise.ok(domains.domainGetOsType, { domain }), { type: 'hvm' })
    for (const autostart of [true, false]) {
      await exercise.ok(domains.domainSetAutostart, { domain, autostart })
      assert.deepEqual(await exercise.ok(domains.domainGetAutostart, { domain }), { autostart })
    }
    await exercise.refused(domains.domainSuspend, { domain }, errorCode.operationInvalid)
    await exercise.refused(domains.domainResume, { domain }, errorCode.operationInvalid)
  })

  it('changes its name and back', async () => {
    const { exercise } = bench()
    await exercise.ok(domains.domainRename, { domain, newName: renamed, flags: 0 })
    await exercise.refused(domains.domainLookupByName, { name: ourName }, errorCode.noDomain)
    await exercise.ok(domains.domainRename, {
      domain: { ...domain, name: renamed },
      newName: ourName,
      flags: 0
    })
    assert.deepEqual((await exercise.ok(domains.domainLookupByName, { name: ourName })).domain, domain)
  })

  it('carries metadata', async () => {
    const { exercise, recorder } = bench()
    const element = { domain, type: metadataType.element, uri }
    const flags = modificationImpact.config
    const text = '<vm generation="3"/>'
    await exercise.ok(metadata.domainSetMetadata, { ...element, metadata: text, key: 'hostlet', flags })
    const { metadata: carried } = await exercise.ok(metadata.domainGetMetadata, { ...element, flags })
    assert.match(carried, /generation=['"]3['"]/)
    await recorder.seen(domainEvents.metadataChange, (event) => isOurs(event) && event.uri === uri)
    await exercise.ok(metadata.domainSetMetadata, { ...element, metadata: null, key: 'hostlet', flags })
    await exercise.refused(metadata.domainGetMetadata, { ...element, flags }, errorCode.noDomainMetadata)
  })

  it('takes other sizes', async () => {
    const { exercise } = bench()
    const flags = domainVcpuFlag.config
    await exercise.ok(tuning.domainSetMaxMemory, { domain, memoryKib: 80 * 1024 })
    assert.deepEqual(await exercise.ok(tuning.domainGetMaxMemory, { domain }), { memoryKib: 81_920n })
    await exercise.ok(tuning.domainSetMemoryFlags, {
      domain,
      memoryKib: 65_536,
      flags: domainMemoryFlag.config
    })
    await exercise.ok(tuning.domainSetVcpusFlags, { domain, vcpus: 1, flags })
    assert.deepEqual(await exercise.ok(tuning.domainGetVcpusFlags, { domain, flags }), { vcpus: 1 })
    const maximum = { domain, flags: flags | domainVcpuFlag.maximum }
    assert.deepEqual(await exercise.ok(tuning.domainGetVcpusFlags, maximum), { vcpus: 2 })
  })

  it('takes quotas and counters for its next start', async () => {
    const { exercise } = bench()
    const flags = modificationImpact.config
    const quota = { field: schedulerParameter.vcpuQuotaUs, type: 'llong', value: 50_000 } as const
    await exercise.ok(tuning.domainSetSchedulerParametersFlags, { domain, parameters: [quota], flags })
    const get = { domain, parametersMax: 16, flags: flags | typedParameterFlag.stringOkay }
    const quotas = await exercise.ok(tuning.domainGetSchedulerParametersFlags, get)
    assert.equal(named(quotas.parameters)[quota.field], 50_000)
    const none = { ...quota, value: -1 }
    await exercise.ok(tuning.domainSetSchedulerParametersFlags, { domain, parameters: [none], flags })

    const cycles = { field: 'cpu_cycles', type: 'boolean', value: false } as const
    await exercise.ok(tuning.domainSetPerfEvents, { domain, parameters: [cycles], flags })
    const counters = await exercise.ok(tuning.domainGetPerfEvents, { domain, flags })
    assert.equal(named(counters.parameters)[cycles.field], false)
  })
}

/**
 * Makes the first cluster unreadable: its entry in the first L2 table says "compressed", and what lies there is not
 * (qcow2 specification, 'Compressed Clusters Descriptor').
 */
async function breakQcow2(path: string): Promise<void> {
  await using file = await open(path, 'r+')
  const addressAt = async (position: number) => {
    const { buffer } = await file.read(Buffer.alloc(8), { position })
    return Number(buffer.readBigUInt64BE() & 0x00ff_ffff_ffff_fe00n)
  }
  const l1Table = await addressAt(40)
  const l2Table = await addressAt(l1Table)
  await file.write(Buffer.from('4000000000010000', 'hex'), 0, 8, l2Table)
}

/** Comes after the block tests: undefines the domain. */
export function stoppingTests(bench: () => Bench): void {
  let domain: Domain

  it('resets, reboots and shuts down, as far as firmware goes', async () => {
    const { exercise, recorder } = bench()
    ;({ domain } = await exercise.ok(domains.domainLookupByName, { name: ourName }))
    const action = {
      domain,
      type: domainLifecycle.reboot,
      action: domainLifecycleAction.restart,
      flags: modificationImpact.live
    }
    await exercise.ok(domains.domainSetLifecycleAction, action)
    await exercise.ok(domains.domainReset, { domain, flags: 0 })
    await recorder.seen(domainEvents.reboot, isOurs)
    await exercise.ok(domains.domainReboot, { domain, flags: domainShutdownFlag.acpiPowerButton })
    await exercise.ok(domains.domainShutdown, { domain })
    await exercise.ok(domains.domainShutdownFlags, { domain, flags: domainShutdownFlag.acpiPowerButton })
  })

  it('saves it, and drops what was saved', async () => {
    const { exercise } = bench()
    await exercise.ok(domains.domainManagedSave, { domain, flags: 0 })
    assert.deepEqual(await exercise.ok(domains.domainHasManagedSaveImage, { domain, flags: 0 }), {
      saved: true
    })
    const { xml } = await exercise.ok(domains.domainManagedSaveGetXmlDesc, { domain, flags: 0 })
    assertIncludes(xml, `<name>${ourName}</name>`)
    await exercise.ok(domains.domainManagedSaveRemove, { domain, flags: 0 })
    assert.deepEqual(await exercise.ok(domains.domainHasManagedSaveImage, { domain, flags: 0 }), {
      saved: false
    })
  })

  it('starts and pulls the plug', async () => {
    const { exercise, recorder } = bench()
    await exercise.ok(domains.domainCreate, { domain })
    await exercise.ok(domains.domainDestroy, { domain })
    await recorder.seen(
      domainEvents.lifecycle,
      (event) => isOurs(event) && event.detail === domainEventDetail.stopped.destroyed && event.event === 5
    )
    const state = await exercise.ok(domains.domainGetState, { domain, flags: 0 })
    assert.deepEqual(state, { state: domainState.shutOff, reason: domainShutOffReason.destroyed })
    await exercise.refused(domains.domainDestroy, { domain }, errorCode.operationInvalid)
  })

  it('is undefined, with all that belongs to it', async () => {
    const { exercise, recorder } = bench()
    const { managedSave, snapshotsMetadata, checkpointsMetadata } = domainUndefineFlag
    const flags = managedSave | snapshotsMetadata | checkpointsMetadata
    await exercise.ok(domains.domainUndefineFlags, { domain, flags })
    await exercise.refused(domains.domainUndefine, { domain }, errorCode.noDomain)
    await recorder.seen(
      domainEvents.lifecycle,
      (event) => isOurs(event) && event.event === domainEventType.undefined
    )
  })

  it('tells of a disk that fails', async () => {
    const { exercise, recorder } = bench()
    const path = `${directory}/broken.qcow2`
    const { pool } = await exercise.ok(storage.storagePoolLookupByName, { name: ourName })
    await exercise.ok(storage.storageVolCreateXml, {
      pool,
      xml: volumeXml('broken.qcow2', 'qcow2', mebibyte),
      flags: volumeCreateFlag.preallocateMetadata
    })
    await breakQcow2(path)
    const xml = `<domain type='qemu'><name>${ourName}</name><memory unit='MiB'>32</memory>
      <os><type arch='x86_64' machine='q35'>hvm</type><boot dev='hd'/></os><devices>
        <disk type='file' device='disk'><driver name='qemu' type='qcow2' rerror_policy='report'/>
          <source file='${path}'/><target dev='vda' bus='virtio'/></disk></devices></domain>`
    const made = await exercise.ok(domains.domainCreateXml, { xml, flags: domainCreateFlag.autodestroy })
    for (const kind of [domainEvents.ioError, domainEvents.ioErrorReason] as const) {
      const event = await recorder.seen(kind, isOurs)
      assert.deepEqual(
        [event.sourcePath, event.alias, event.action],
        [path, 'virtio-disk0', ioErrorAction.report]
      )
    }
    await exercise.ok(domains.domainDestroy, made)
  })

  it('runs a transient domain, which vanishes', async () => {
    const { exercise } = bench()
    const xml = `<domain type='qemu'><name>${ourName}</name><memory unit='MiB'>32</memory>
      <os><type arch='x86_64' machine='q35'>hvm</type></os></domain>`
    const flags = domainCreateFlag.paused | domainCreateFlag.autodestroy
    const made = await exercise.ok(domains.domainCreateXml, { xml, flags })
    assert.deepEqual(await exercise.ok(domains.domainIsPersistent, made), { persistent: false })
    await exercise.ok(domains.domainDestroyFlags, { ...made, flags: domainDestroyFlag.graceful })
    await exercise.refused(domains.domainLookupByName, { name: ourName }, errorCode.noDomain)
  })
}
