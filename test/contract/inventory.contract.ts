// What every hypervisor port must tell of everything on the host: whose domains are, what they use, what volumes and machines are like.

import assert from 'node:assert/strict'
import { createHash, randomUUID } from 'node:crypto'
import { basename } from 'node:path'
import { Readable } from 'node:stream'
import { after, before, describe, it } from 'node:test'
import type { DomainUse } from '../../src/agent/host/inventory-port.ts'
import { metadataOf, type VmMetadata } from '../../src/agent/host/metadata.ts'
import { baseVolumeName, diskSecretUsage } from '../../src/agent/host/names.ts'
import type { ForeignDomain } from '../../src/protocol/vm.ts'
import {
  definitionOf,
  type HypervisorSubject,
  haltingDisk,
  rejectsWith,
  wait
} from './hypervisor.contract.ts'

export interface PlantedDomain {
  readonly name: string
  readonly uuid: string
  /** Ours as it would be written, or any text in its place. */
  readonly metadata: VmMetadata | string
}

export interface InventorySubject
  extends Pick<HypervisorSubject, 'hypervisor' | 'prefix' | 'network' | 'uid' | 'dispose'> {
  readonly pool: string
  /** Defines a domain by hand. */
  plant(domain: PlantedDomain): Promise<void>
  uproot(name: string): Promise<void>
  setAutostart(name: string): Promise<void>
  stopPool(): Promise<void>
}

export function describeInventory(
  title: string,
  options: { skip?: string | false; open: () => Promise<InventorySubject> }
): void {
  describe(`inventory of the hypervisor: ${title}`, { skip: options.skip }, () => {
    let subject: InventorySubject
    before(async () => {
      subject = await options.open()
    })
    after(() => subject?.dispose())

    it('quarantines what carries metadata that cannot be its own, with the reason, and touches none of it', async () => {
      const { hypervisor, prefix, pool } = subject
      const metadata = () => metadataOf(definitionOf(subject, 'was'), pool)
      const own = (name: string, uuid: string): VmMetadata => {
        const made = metadata()
        return { ...made, specification: { ...made.specification, name, uuid } }
      }
      const cases: readonly (readonly [
        NonNullable<ForeignDomain['reason']>,
        (id: Id) => VmMetadata | string
      ])[] = [
        ['unreadable', () => '{"specification":{'],
        ['unreadable', ({ name, uuid }) => JSON.stringify({ ...own(name, uuid), generation: -1 })],
        ['other-pool', ({ name, uuid }) => ({ ...own(name, uuid), pool: `${pool}-other` })],
        ['copied', ({ name }) => own(name, randomUUID())],
        ['renamed', ({ uuid }) => own(`${prefix}-before`, uuid)]
      ]
      for (const [reason, write] of cases) {
        const id = { name: `${prefix}-planted`, uuid: randomUUID() }
        await subject.plant({ ...id, metadata: write(id) })
        try {
          const found = (await hypervisor.listForeign(wait())).find(({ uuid }) => uuid === id.uuid)
          assert.equal(found?.reason, reason)
          assert.ok(found.detail !== undefined && found.detail.length > 0)
          assert.deepEqual(await hypervisor.listVms(wait()), [])
          assert.equal(await hypervisor.findVm(id.name, wait()), undefined)
          await rejectsWith('E_CONFLICT', hypervisor.start(id.name, wait()))
          await rejectsWith('E_CONFLICT', hypervisor.undefine(id.name, wait()))
          await rejectsWith('E_CONFLICT', hypervisor.annotate(id.name, { generation: 9 }, wait()))
        } finally {
          await subject.uproot(id.name)
        }
      }
    })

    it('tells what quarantined metadata claim, also where they are refused as a whole', async () => {
      const { prefix, pool } = subject
      const id = { name: `${prefix}-claims`, uuid: randomUUID() }
      const was = metadataOf(definitionOf(subject, 'was'), pool)
      const network = { ports: [{ transport: 'tcp', hostPort: 20_001, vmPort: 80 }] }
      const resources = { pinned: [[5], [6, 7]] }
      const broken = {
        ...was,
        specification: { ...was.specification, network },
        placement: { ...was.placement, resources },
        wanted: 'perhaps'
      }
      await subject.plant({ ...id, metadata: JSON.stringify(broken) })
      try {
        const use = await useOf(id.uuid, 'foreign')
        assert.equal(use.owner, 'unreadable')
        const { uid, macAddress, address } = was.placement
        assert.deepEqual([use.uids, use.macAddresses, use.addresses], [[uid], [macAddress], [address]])
        assert.deepEqual([use.cpus, use.hostPorts], [[5, 6, 7], [{ transport: 'tcp', hostPort: 20_001 }]])
      } finally {
        await subject.uproot(id.name)
      }
    })

    it('keeps the VM that it knew, where another claims its user, MAC and address', async () => {
      const { hypervisor, prefix, pool } = subject
      const definition = definitionOf(subject, 'first')
      const { name } = definition.specification
      await hypervisor.define(definition, wait())
      const id = { name: `${prefix}-twin`, uuid: '00000000-0000-4000-8000-000000000001' }
      const twin = { ...definition, specification: { ...definition.specification, ...id } }
      await subject.plant({ ...id, metadata: metadataOf(twin, pool) })
      try {
        const found = (await hypervisor.listForeign(wait())).find(({ uuid }) => uuid === id.uuid)
        assert.equal(found?.reason, 'duplicate')
        assert.match(found.detail ?? '', new RegExp(`is that of VM ${name}`))
        const listed = (await hypervisor.listVms(wait())).map(({ specification }) => specification.name)
        assert.deepEqual(listed, [name])
        await rejectsWith('E_CONFLICT', hypervisor.start(id.name, wait()))
        assert.equal((await hypervisor.findVm(name, wait()))?.specification.name, name)
      } finally {
        await subject.uproot(id.name)
        await hypervisor.undefine(name, wait())
      }
    })

    it('tells what a VM uses, and what its volumes stand on', async () => {
      const { hypervisor } = subject
      const definition = definitionOf(subject, 'using', { data: true })
      const { specification, placement } = definition
      const base = await storeBase()
      const { rootVolume } = placement
      await hypervisor.createOverlay(
        { name: rootVolume, base, baseFormat: 'raw', capacityBytes: 4 * 1024 ** 2 },
        wait()
      )
      await hypervisor.define(definition, wait())
      try {
        const use = await useOf(specification.uuid)
        assert.equal(use.owner, 'ours')
        const volumes = await hypervisor.surveyVolumes(wait())
        const root = volumes.find(({ name }) => name === rootVolume)
        assert.deepEqual([root?.format, basename(root?.backing ?? '')], ['qcow2', base])
        assert.equal(typeof root?.changedAt, 'number')
        assert.ok(use.files.includes(root?.path ?? ''))
        assert.ok(use.files.includes(root?.backing ?? ''))
        assert.deepEqual([use.openChains, use.networks, use.uids], [[], [placement.network], [placement.uid]])
      } finally {
        await hypervisor.undefine(specification.name, wait())
        await hypervisor.removeVolume(rootVolume, wait())
      }
    })

    it('examines a machine that is off, and clears an autostart that somebody set', async () => {
      const { hypervisor } = subject
      const definition = definitionOf(subject, 'examined')
      const { name, memoryBytes } = definition.specification
      await hypervisor.define(definition, wait())
      try {
        const before = await hypervisor.examine(name, wait())
        assert.deepEqual([before.running, before.autostart, before.live], [false, false, undefined])
        assert.equal(before.definition?.memoryBytes, memoryBytes)
        assert.deepEqual(
          before.definition?.ports.map(({ macAddress, isolated }) => [macAddress, isolated]),
          [[definition.placement.macAddress, true]]
        )
        await subject.setAutostart(name)
        assert.equal((await hypervisor.examine(name, wait())).autostart, true)
        await hypervisor.clearAutostart(name, wait())
        assert.equal((await hypervisor.examine(name, wait())).autostart, false)
      } finally {
        await hypervisor.undefine(name, wait())
      }
    })

    it('lists the secrets that are ours', async () => {
      const { hypervisor } = subject
      const id = randomUUID()
      await hypervisor.defineSecret({ id, passphrase: 'secret' }, wait())
      const found = async () => (await hypervisor.listSecrets(wait())).find((secret) => secret.id === id)
      assert.deepEqual(await found(), { id, usage: diskSecretUsage(id) })
      await hypervisor.removeSecret(id, wait())
      assert.equal(await found(), undefined)
    })

    it('starts a pool that was stopped', async () => {
      const { hypervisor } = subject
      const base = await storeBase()
      assert.equal(await hypervisor.ensurePool(wait()), false)
      await subject.stopPool()
      assert.equal(await hypervisor.ensurePool(wait()), true)
      assert.equal(await hypervisor.ensurePool(wait()), false)
      assert.ok((await hypervisor.listVolumes(wait())).some(({ name }) => name === base))
    })

    async function useOf(uuid: string, only?: 'foreign'): Promise<DomainUse> {
      const found = (await subject.hypervisor.domainUses(wait(), only)).find((use) => use.uuid === uuid)
      assert.ok(found)
      assert.equal(found.complete, true)
      return found
    }

    /** The image that the definitions name. */
    async function storeBase(): Promise<string> {
      const { hypervisor } = subject
      const content = haltingDisk()
      const sha256 = createHash('sha256').update(content).digest('hex')
      const name = baseVolumeName({ sha256, format: 'raw' })
      if ((await hypervisor.findVolume(name, wait())) === undefined)
        await hypervisor.uploadBase(
          { name, format: 'raw', sizeBytes: content.length },
          Readable.from([content]),
          wait()
        )
      return name
    }
  })
}

interface Id {
  readonly name: string
  readonly uuid: string
}
