// What every hypervisor port must do with the share of the host that a VM gets: sizes, cores, limits, room on its disks.

import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { after, before, describe, it } from 'node:test'
import type { VmDefinition } from '../../src/agent/host/hypervisor.ts'
import { dataVolumeName } from '../../src/agent/host/names.ts'
import {
  definitionOf,
  type HypervisorSubject,
  makeDisks,
  rejectsWith,
  removeVm,
  storeBase,
  wait
} from './hypervisor.contract.ts'

export function describeShapes(
  title: string,
  options: { skip?: string | false; open: () => Promise<HypervisorSubject> }
): void {
  describe(`contract of the hypervisor, shapes: ${title}`, { skip: options.skip }, () => {
    let subject: HypervisorSubject
    before(async () => {
      subject = await options.open()
      await subject.hypervisor.ensureNetwork(subject.network, wait())
      await storeBase(subject.hypervisor)
    })
    after(() => subject?.dispose())
    tests(() => subject)
  })
}

function tests(ask: () => HypervisorSubject): void {
  it('keeps a placement with cores and limits, and starts such a machine', async () => {
    const { hypervisor } = ask()
    const resources = {
      shared: [0],
      diskLimits: { bytesPerSecondMax: 1024 ** 2, operationsPerSecondMax: 100 }
    }
    const definition = shaped(ask(), 'kept', { resources })
    const { name } = definition.specification
    await makeDisks(hypervisor, definition)
    try {
      await hypervisor.define(definition, wait())
      assert.deepEqual((await hypervisor.findVm(name, wait()))?.placement.resources, resources)
      await hypervisor.start(name, wait())
      assert.equal((await hypervisor.findVm(name, wait()))?.state, 'running')
    } finally {
      await removeVm(hypervisor, definition)
    }
  })

  it('changes sizes and resources of a machine that is off, and nothing else of it', async () => {
    const { hypervisor } = ask()
    const definition = shaped(ask(), 'off', { specification: { cpuLimitPercent: 50 } })
    const { name, memoryBytes } = definition.specification
    const schedule = { target: 'vault', everyMs: 3_600_000 }
    await makeDisks(hypervisor, definition)
    try {
      await hypervisor.define({ ...definition, backupSchedule: schedule, generation: 5 }, wait())
      const sizes = { cpus: 2, memoryBytes: 2 * memoryBytes, cpuLimitPercent: 150 }
      const resources = { pinned: [[0], [0]], diskLimits: { operationsPerSecondMax: 50 } }
      await hypervisor.reshape(name, { sizes, resources }, wait())
      const record = await hypervisor.findVm(name, wait())
      assert.deepEqual(record?.specification, { ...definition.specification, ...sizes })
      assert.deepEqual(record?.placement, { ...definition.placement, resources })
      assert.equal(record?.generation, 5)
      assert.equal(record?.state, 'stopped')
      assert.deepEqual(record?.backupSchedule, schedule)
      await hypervisor.reshape(name, {}, wait())
      assert.deepEqual(await hypervisor.findVm(name, wait()), record)
      await hypervisor.reshape(name, { sizes: { cpuLimitPercent: null }, resources: {} }, wait())
      const bare = await hypervisor.findVm(name, wait())
      assert.equal(bare?.specification.cpuLimitPercent, undefined)
      assert.equal(bare?.specification.cpus, 2)
      assert.deepEqual(bare?.placement.resources, {})
      await hypervisor.start(name, wait())
      assert.equal((await hypervisor.findVm(name, wait()))?.state, 'running')
    } finally {
      await removeVm(hypervisor, definition)
    }
  })

  it('changes a machine that runs, and leaves it running', async () => {
    const { hypervisor } = ask()
    const definition = shaped(ask(), 'on', { resources: { shared: [0] } })
    const { name } = definition.specification
    await makeDisks(hypervisor, definition)
    try {
      await hypervisor.define(definition, wait())
      await hypervisor.start(name, wait())
      const { run } = (await hypervisor.findVm(name, wait())) ?? {}
      const changes = [
        {
          sizes: { cpuLimitPercent: 50 },
          resources: { pinned: [[0]], diskLimits: { operationsPerSecondMax: 50 } }
        },
        { sizes: { cpuLimitPercent: null, cpus: 2 }, resources: { shared: [0] } },
        {}
      ]
      for (const change of changes) await hypervisor.reshape(name, change, wait())
      const record = await hypervisor.findVm(name, wait())
      assert.equal(record?.state, 'running')
      assert.equal(record?.run, run)
      assert.equal(record?.specification.cpus, 2)
      assert.deepEqual(record?.placement.resources, { shared: [0] })
    } finally {
      await removeVm(hypervisor, definition)
    }
  })

  it('grows disks of machines that are off and of those that run, and never shrinks one', async () => {
    const { hypervisor } = ask()
    const definition = shaped(ask(), 'grow', { dataDiskBytes: 8 * 1024 ** 2 })
    const { name, rootDiskBytes } = definition.specification
    const { rootVolume, dataVolume } = definition.placement
    const sizeOf = async (volume: string | null) =>
      (await hypervisor.findVolume(volume ?? '', wait()))?.capacityBytes
    await makeDisks(hypervisor, definition)
    try {
      await hypervisor.define(definition, wait())
      await hypervisor.growDisk(name, 'root', 2 * rootDiskBytes, wait())
      assert.equal(await sizeOf(rootVolume), 2 * rootDiskBytes)
      await hypervisor.start(name, wait())
      await hypervisor.growDisk(name, 'data', 16 * 1024 ** 2, wait())
      await hypervisor.growDisk(name, 'data', 16 * 1024 ** 2, wait())
      await hypervisor.growDisk(name, 'data', 9 * 1024 ** 2, wait())
      await hypervisor.growDisk(name, 'root', rootDiskBytes, wait())
      assert.equal(await sizeOf(dataVolume), 16 * 1024 ** 2)
      assert.equal(await sizeOf(rootVolume), 2 * rootDiskBytes)
      await hypervisor.cutPower(name, wait())
      await hypervisor.growDisk(name, 'data', 12 * 1024 ** 2, wait())
      assert.equal(await sizeOf(dataVolume), 16 * 1024 ** 2)
    } finally {
      await removeVm(hypervisor, definition)
    }
  })

  it('foresees what a change would leave, to the letter, and changes nothing by it', async () => {
    const { hypervisor } = ask()
    const definition = shaped(ask(), 'foreseen', {
      specification: { cpuLimitPercent: 50 },
      dataDiskBytes: 1024 ** 2
    })
    const { name, memoryBytes } = definition.specification
    const now = async () => (await hypervisor.draft({ kind: 'removal', name }, wait())).before
    await makeDisks(hypervisor, definition)
    try {
      await hypervisor.define(definition, wait())
      const made = await now()
      const shape = {
        sizes: { cpus: 2, memoryBytes: 2 * memoryBytes, cpuLimitPercent: 150 },
        resources: { shared: [0], diskLimits: { operationsPerSecondMax: 50 } }
      }
      const change = { kind: 'change', name, shape, change: { generation: 7, wanted: 'running' } } as const
      const { before, after } = await hypervisor.draft(change, wait())
      assert.equal(before, made)
      assert.equal(await now(), made)
      await hypervisor.reshape(name, shape, wait())
      await hypervisor.annotate(name, { generation: 7, wanted: 'running' }, wait())
      assert.equal(await now(), after)
      const same = await hypervisor.draft({ kind: 'change', name }, wait())
      assert.equal(same.after, same.before)
    } finally {
      await removeVm(hypervisor, definition)
    }
  })

  it('foresees other disks: their files, and nothing else of the machine', async () => {
    const { hypervisor } = ask()
    const definition = shaped(ask(), 'swapped')
    const { name } = definition.specification
    const { specification, placement } = definition
    await makeDisks(hypervisor, definition)
    try {
      await hypervisor.define(definition, wait())
      const rootVolume = placement.rootVolume.replace('.root.', '.root.0123456789abcdef.')
      const disks = { specification, placement: { ...placement, rootVolume } }
      const { before = '', after = '' } = await hypervisor.draft({ kind: 'change', name, disks }, wait())
      const lines = (text: string) => text.split('\n')
      const changed = lines(after).filter((line) => !lines(before).includes(line))
      assert.equal(lines(after).length, lines(before).length)
      assert.equal(changed.length, 2, changed.join('\n'))
      for (const line of changed) assert.match(line, /\.root\.0123456789abcdef\./)
    } finally {
      await removeVm(hypervisor, definition)
    }
  })

  it('says of what is not there that it is not found', async () => {
    const { hypervisor, prefix } = ask()
    await rejectsWith('E_NOT_FOUND', hypervisor.reshape(`${prefix}-none`, {}, wait()))
    await rejectsWith('E_NOT_FOUND', hypervisor.growDisk(`${prefix}-none`, 'root', 1024 ** 3, wait()))
    await rejectsWith('E_NOT_FOUND', hypervisor.draft({ kind: 'change', name: `${prefix}-none` }, wait()))
    const definition = shaped(ask(), 'diskless')
    await hypervisor.define(definition, wait())
    const { name } = definition.specification
    await rejectsWith('E_NOT_FOUND', hypervisor.growDisk(name, 'data', 1024 ** 3, wait()))
    await hypervisor.undefine(name, wait())
  })
}

function shaped(
  subject: HypervisorSubject,
  name: string,
  change: {
    resources?: NonNullable<VmDefinition['placement']['resources']>
    specification?: Partial<VmDefinition['specification']>
    dataDiskBytes?: number
  } = {}
): VmDefinition {
  const plain = definitionOf(subject, `${name}-${randomUUID().slice(0, 4)}`)
  const { dataDiskBytes } = change
  const specification = {
    ...plain.specification,
    ...change.specification,
    ...(dataDiskBytes !== undefined && { dataDiskBytes })
  }
  return {
    ...plain,
    specification,
    placement: {
      ...plain.placement,
      dataVolume: dataDiskBytes === undefined ? null : dataVolumeName(specification),
      ...(change.resources && { resources: change.resources })
    }
  }
}
