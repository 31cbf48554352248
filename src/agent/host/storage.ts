// The disks of VMs: a disposable root disk on a base image, a data disk, and their removal.

import { HostletError } from '../../errors.ts'
import type { VmSpecification } from '../../protocol/vm.ts'
import type { Hypervisor, Placement, Wait } from './hypervisor.ts'
import { baseVolumeName, shortId } from './names.ts'

export interface StorageOptions {
  readonly hypervisor: Pick<
    Hypervisor,
    'createOverlay' | 'createVolume' | 'removeVolume' | 'listVolumes' | 'findVm'
  >
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
    const base = baseVolumeName(image)
    const overlay = { name: placement.rootVolume, base, baseFormat: image.format, capacityBytes }
    await hypervisor.createOverlay(overlay, wait)
  }

  /** An empty data disk of a VM that never ran. No effect when it has none. */
  async createDataDisk(vm: VmSpecification, placement: Placement, wait: Wait): Promise<void> {
    const { dataDiskBytes: capacityBytes } = vm
    if (placement.dataVolume === null || capacityBytes === undefined) return
    await this.#requireFree(vm.name, placement.dataVolume, wait)
    await this.#options.hypervisor.removeVolume(placement.dataVolume, wait)
    await this.#options.hypervisor.createVolume({ name: placement.dataVolume, capacityBytes }, wait)
  }

  /** Removes one disk of a VM that no machine uses. No effect when there is none. */
  async removeDisk(vm: { name: string; uuid: string }, volume: string, wait: Wait): Promise<void> {
    await this.#requireFree(vm.name, volume, wait)
    await this.#options.hypervisor.removeVolume(volume, wait)
  }

  /** Removes all disks of a VM, by name and UUID: also those of one whose definition is gone. Returns what there was. */
  async removeDisks(vm: { name: string; uuid: string }, wait: Wait): Promise<string[]> {
    const prefix = `${shortId(vm)}.`
    const volumes = await this.#options.hypervisor.listVolumes(wait)
    const disks = volumes.map((volume) => volume.name).filter((name) => name.startsWith(prefix))
    for (const disk of disks) await this.#options.hypervisor.removeVolume(disk, wait)
    return disks
  }

  /** A disk in use is never replaced, whatever led here. */
  async #requireFree(name: string, volume: string, wait: Wait): Promise<void> {
    const record = await this.#options.hypervisor.findVm(name, wait)
    if (record === undefined || record.state === 'stopped' || record.state === 'crashed') return
    const { rootVolume, dataVolume } = record.placement
    if (volume !== rootVolume && volume !== dataVolume) return
    throw new HostletError('E_CONFLICT', `VM ${name} is ${record.state}: its disks cannot be replaced`)
  }
}
