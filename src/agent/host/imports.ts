// Room in the pool for restored disks: files that this process writes itself, and libvirt hands to the VM's user at its start.

import { HostletError } from '../../errors.ts'
import type { Hypervisor, Wait } from './hypervisor.ts'
import type { Volumes } from './volumes.ts'

export interface ImportsOptions {
  readonly volumes: Pick<Volumes, 'createOwned' | 'remove' | 'refresh'>
  readonly hypervisor: Pick<Hypervisor, 'listVms'>
  /** Of this process. */
  readonly owner: { readonly uid: number; readonly gid: number }
}

export class Imports {
  readonly #options: ImportsOptions

  constructor(options: ImportsOptions) {
    this.#options = options
  }

  /** Throws E_CONFLICT when a VM that is on has a disk of the name, E_CAPACITY. */
  async create({ name }: { name: string; sizeBytes: number }, wait: Wait): Promise<{ path: string }> {
    const { volumes, owner } = this.#options
    await this.#requireUnused(name, wait)
    await volumes.remove(name, wait)
    return await volumes.createOwned({ name, ...owner }, wait)
  }

  async finish(name: string, wait: Wait): Promise<void> {
    await this.#options.volumes.refresh(name, wait)
  }

  async #requireUnused(name: string, wait: Wait): Promise<void> {
    const user = (await this.#options.hypervisor.listVms(wait)).find(
      ({ state, placement }) =>
        state !== 'stopped' &&
        state !== 'crashed' &&
        [placement.rootVolume, placement.dataVolume].includes(name)
    )
    if (user === undefined) return
    throw new HostletError(
      'E_CONFLICT',
      `volume ${name} is a disk of VM ${user.specification.name}, which is ${user.state}: it cannot be replaced. Stop the VM first.`,
      { details: { volume: name, vm: user.specification.name } }
    )
  }
}
