// What every hypervisor port must do for encrypted disks: bytes as they are, and no start without the keys.

import assert from 'node:assert/strict'
import { randomBytes, randomUUID } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { mkdtemp, open, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { after, before, describe, it } from 'node:test'
import type { VmDefinition } from '../../src/agent/host/hypervisor.ts'
import { formatLuks, newPassphrase } from '../../src/agent/host/luks-format.ts'
import { asDisk, blankBytes, clusterBytes } from '../../src/agent/host/qcow2-luks.ts'
import { systemClock } from '../../src/lib/clock.ts'
import { definitionOf, type HypervisorSubject, rejectsWith, removeVm, wait } from './hypervisor.contract.ts'

const capacityBytes = 8 * 1024 ** 2

export function describeSealed(
  title: string,
  options: { skip?: string | false; open: () => Promise<HypervisorSubject> }
): void {
  describe(`contract of encrypted disks: ${title}`, { skip: options.skip, timeout: 600_000 }, () => {
    let subject: HypervisorSubject
    let directory: string
    let definition: VmDefinition
    const id = randomUUID()
    const passphrase = newPassphrase()

    before(async () => {
      subject = await options.open()
      directory = await mkdtemp(join(tmpdir(), 'hostlet-sealed-'))
      const path = join(directory, 'disk.qcow2')
      await formatLuks({ path, passphrase, sizeBytes: blankBytes }, { ...wait(), clock: systemClock })
      await using file = await open(path, 'r+')
      const first = Buffer.alloc(clusterBytes)
      await file.read(first, 0, clusterBytes, 0)
      await file.write(asDisk(first, { sizeBytes: capacityBytes }), 0, clusterBytes, 0)
      const plain = definitionOf(subject, 'sealed')
      const placement = { ...plain.placement, rootStandsAlone: true, rootKey: id } as const
      definition = { ...plain, placement }
    })
    after(async () => {
      await removeVm(subject.hypervisor, definition)
      await subject.hypervisor.removeSecret(id, wait())
      await subject.dispose()
      await rm(directory, { recursive: true, force: true })
    })

    it('stores a disk of other making, once, and knows how large it is', async () => {
      const { hypervisor } = subject
      await store()
      const { rootVolume } = definition.placement
      assert.equal((await hypervisor.findVolume(rootVolume, wait()))?.capacityBytes, capacityBytes)
      await rejectsWith('E_CONFLICT', store())
    })

    it('reads and writes some of its bytes, and nothing beyond', async () => {
      const { hypervisor } = subject
      const { rootVolume } = definition.placement
      const content = await readFile(join(directory, 'disk.qcow2'))
      const range = { offsetBytes: 1_000, lengthBytes: 70_000 }
      assert.deepEqual(await hypervisor.readRange(rootVolume, range, wait()), content.subarray(1_000, 71_000))
      // In a key slot that is not used.
      const at = 0x40000 + 1_552_384
      const bytes = randomBytes(5_000)
      await hypervisor.writeRange(rootVolume, at, bytes, wait())
      const around = { offsetBytes: at - 10, lengthBytes: bytes.length + 20 }
      const before = content.subarray(at - 10, at)
      const behind = content.subarray(at + bytes.length, at + bytes.length + 10)
      assert.deepEqual(
        await hypervisor.readRange(rootVolume, around, wait()),
        Buffer.concat([before, bytes, behind])
      )
      const beyond = { offsetBytes: content.length - 10, lengthBytes: 20 }
      await rejectsWith('E_CORRUPT', hypervisor.readRange(rootVolume, beyond, wait()))
      await rejectsWith('E_NOT_FOUND', hypervisor.readRange('absent.qcow2', range, wait()))
      await rejectsWith('E_NOT_FOUND', hypervisor.writeRange('absent.qcow2', 0, bytes, wait()))
    })

    it('starts no machine whose key it has not been told, or was told to forget', async () => {
      const { hypervisor, network } = subject
      const { name } = definition.specification
      await hypervisor.ensureNetwork(network, wait())
      await hypervisor.define(definition, wait())
      assert.equal((await hypervisor.findVm(name, wait()))?.placement.rootKey, id)
      await rejectsWith('E_LIBVIRT', hypervisor.start(name, wait()))
      assert.equal((await hypervisor.findVm(name, wait()))?.state, 'stopped')
      await hypervisor.defineSecret({ id, passphrase: 'another' }, wait())
      await hypervisor.defineSecret({ id, passphrase }, wait())
      await hypervisor.start(name, wait())
      assert.equal((await hypervisor.findVm(name, wait()))?.state, 'running')
      await hypervisor.removeSecret(id, wait())
      await hypervisor.removeSecret(id, wait())
      assert.equal((await hypervisor.findVm(name, wait()))?.state, 'running')
      await hypervisor.cutPower(name, wait())
      await rejectsWith('E_LIBVIRT', hypervisor.start(name, wait()))
    })

    it('takes a key that a gate tells it', async () => {
      const { hypervisor } = subject
      const { name } = definition.specification
      using _gate = hypervisor.addStartGate(async ({ placement }, waiting) => {
        assert.equal(placement.rootKey, id)
        await hypervisor.defineSecret({ id, passphrase }, waiting)
      })
      await hypervisor.start(name, wait())
      assert.equal((await hypervisor.findVm(name, wait()))?.state, 'running')
    })

    it('leaves nothing of a disk whose content ends in an error', async () => {
      const { hypervisor, prefix } = subject
      const name = `${prefix}-half.00000000.root.qcow2`
      const broken = Readable.from(
        (async function* () {
          yield randomBytes(1_024)
          throw new Error('the file could not be read')
        })()
      )
      await assert.rejects(hypervisor.storeDisk({ name, sizeBytes: 4_096, capacityBytes }, broken, wait()))
      assert.equal(await hypervisor.findVolume(name, wait()), undefined)
    })

    async function store(): Promise<void> {
      const path = join(directory, 'disk.qcow2')
      const { length } = await readFile(path)
      const disk = { name: definition.placement.rootVolume, sizeBytes: length, capacityBytes }
      await subject.hypervisor.storeDisk(disk, createReadStream(path), wait())
    }
  })
}
