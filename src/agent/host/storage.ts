// The disks of VMs: a disposable root disk on a base image, a data disk, and their removal.

import { HostletError } from '../../errors.ts'
import type { VmSpecification } from '../../protocol/vm.ts'
import type { SealedDisks } from '../keys/sealed-disks.ts'
import type { Hypervisor, Placement, Wait } from './hypervisor.ts'
import { isOff } from './making.ts'
import { baseVolumeName, shortId } from './names.ts'

export interface StorageOptions {
  readonly hypervisor: Pick<
    Hypervisor,
    'createOverlay' | 'createVolume' | 'removeVolume' | 'listVolumes' | 'findVm'
  >
  readonly sealed: SealedDisks
}

export class Storage {
  readonly #options: StorageOptions

  constructor(options: StorageOptions) {
    this.#options = options
  }

  /** A fresh root disk that no machine uses: one that a crash left, whole or half, is made anew. */
  async createRootDisk(vm: VmSpecification, placement: Placement, wait: Wait): Promise<void> {
    await this.#requireFree(vm.name, placement.rootVolume, wait)
    const { hypervisor } = this.#options
    await hypervisor.removeVolume(placement.rootVolume, wait)
    const { image, rootDiskBytes: capacityBytes } = vm
    const { rootVolume: volume, rootKey: id } = placement
    if (id !== undefined)
      return await this.#options.sealed.create({ id, vm, volume, capacityBytes }, image, wait)
    const base = baseVolumeName(image)
    const overlay = { name: placement.rootVolume, base, baseFormat: image.format, capacityBytes }
    await hypervisor.createOverlay(overlay, wait)
  }

  /** An empty data disk of a VM that never ran. No effect when it has none. */
  async createDataDisk(vm: VmSpecification, placement: Placement, wait: Wait): Promise<void> {
    const { dataDiskBytes: capacityBytes } = vm
    if (placement.dataVolume === null || capacityBytes === undefined) return
    const { dataVolume: volume, dataKey: id } = placement
    await this.#requireFree(vm.name, volume, wait)
    const { hypervisor, sealed } = this.#options
    await hypervisor.removeVolume(volume, wait)
    if (id !== undefined) await sealed.create({ id, vm, volume, capacityBytes }, undefined, wait)
    else await hypervisor.createVolume({ name: volume, capacityBytes }, wait)
  }

  /** Removes one disk of a VM that no machine uses, its key first. No effect when there is none. */
  async removeDisk(
    vm: { name: string; uuid: string },
    { volume, key }: { volume: string; key: string | undefined },
    wait: Wait
  ): Promise<void> {
    await this.#requireFree(vm.name, volume, wait)
    await this.#options.sealed.destroyKeys([key], wait)
    await this.#options.hypervisor.removeVolume(volume, wait)
  }

  /**
   * Removes all disks of a VM, by name and UUID: also those of one whose definition is gone. Their keys go first, so that
   * what is left of a disk is unreadable whatever becomes of it. Returns what there was. Throws E_CONFLICT for one that is on.
   */
  async removeDisks(vm: { name: string; uuid: string }, wait: Wait): Promise<string[]> {
    await this.#requireOff(vm, wait)
    const keys = await this.#options.sealed.destroyKeysOf(vm, wait)
    const prefix = `${shortId(vm)}.`
    const volumes = await this.#options.hypervisor.listVolumes(wait)
    const disks = volumes.map((volume) => volume.name).filter((name) => name.startsWith(prefix))
    for (const disk of disks) await this.#options.hypervisor.removeVolume(disk, wait)
    return [...keys.map((id) => `key ${id}`), ...disks]
  }

  async #requireOff({ name, uuid }: { name: string; uuid: string }, wait: Wait): Promise<void> {
    const record = await this.#options.hypervisor.findVm(name, wait)
    if (record === undefined || record.specification.uuid !== uuid || isOff(record)) return
    throw new HostletError('E_CONFLICT', `VM ${name} is ${record.state}: its disks cannot be removed`)
  }

  /** A disk in use is never replaced, whatever led here. */
  async #requireFree(name: string, volume: string, wait: Wait): Promise<void> {
    const record = await this.#options.hypervisor.findVm(name, wait)
    if (record === undefined || isOff(record)) return
    const { rootVolume, dataVolume } = record.placement
    if (volume !== rootVolume && volume !== dataVolume) return
    throw new HostletError('E_CONFLICT', `VM ${name} is ${record.state}: its disks cannot be replaced`)
  }
}
