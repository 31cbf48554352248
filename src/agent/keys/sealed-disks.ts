// The encrypted disks of VMs: a prepared file becomes the disk of one VM, with a key that is kept before the disk is anywhere.

import { createReadStream } from 'node:fs'
import { copyFile, open, stat } from 'node:fs/promises'
import { HostletError } from '../../errors.ts'
import type { ImageReference } from '../../protocol/vm.ts'
import type { Hypervisor, Wait } from '../host/hypervisor.ts'
import { baseVolumeName } from '../host/names.ts'
import { asDisk, clusterBytes, type DiskIdentity } from '../host/qcow2-luks.ts'
import type { BlankDisk, BlankDisks } from './blank-disks.ts'
import type { DiskKeys } from './disk-keys.ts'

export interface SealedDisk {
  /** Of the key. */
  readonly id: string
  readonly vm: { readonly name: string; readonly uuid: string }
  readonly volume: string
  readonly capacityBytes: number
}

export interface SealedDisksOptions {
  readonly hypervisor: Pick<Hypervisor, 'storeDisk' | 'findVolume' | 'removeSecret'>
  readonly keys: DiskKeys
  readonly blanks: Pick<BlankDisks, 'take'>
}

export class SealedDisks {
  readonly #options: SealedDisksOptions

  constructor(options: SealedDisksOptions) {
    this.#options = options
  }

  /** A disk on a base image, or an empty one, as a volume that does not exist yet. */
  async create(disk: SealedDisk, image: ImageReference | undefined, wait: Wait): Promise<void> {
    const { hypervisor } = this.#options
    const base = image && { name: baseVolumeName(image), format: image.format }
    await using blank = await this.#claim(disk, base, wait)
    const { size: sizeBytes } = await stat(blank.path)
    const content = createReadStream(blank.path)
    const { volume: name, capacityBytes } = disk
    await hypervisor.storeDisk({ name, sizeBytes, capacityBytes, ...(base && { base }) }, content, wait)
  }

  /** The same, empty, as a file that is there already and this process may write. Returns the passphrase, to fill it. */
  async createIn(path: string, disk: SealedDisk, wait: Wait): Promise<string> {
    await using blank = await this.#claim(disk, undefined, wait)
    await copyFile(blank.path, path)
    return blank.passphrase
  }

  /** Destroys keys: what they encrypt is unreadable from here on. Returns those that there were. */
  async destroyKeys(ids: readonly (string | undefined)[], wait: Wait): Promise<string[]> {
    const { keys, hypervisor } = this.#options
    const gone: string[] = []
    for (const id of ids) {
      if (id === undefined) continue
      if (keys.destroy(id)) gone.push(id)
      await hypervisor.removeSecret(id, wait)
    }
    return gone
  }

  /** All keys of a VM, also of one whose definition is gone. */
  async destroyKeysOf(vm: { uuid: string }, wait: Wait): Promise<string[]> {
    const { keys, hypervisor } = this.#options
    const gone = keys.destroyAll(vm.uuid).map(({ id }) => id)
    for (const id of gone) await hypervisor.removeSecret(id, wait)
    return gone
  }

  /** A prepared file as this disk, whose key is durable from here on. */
  async #claim(
    { id, vm, volume, capacityBytes }: SealedDisk,
    base: { name: string; format: string } | undefined,
    wait: Wait
  ): Promise<BlankDisk> {
    const { keys, blanks } = this.#options
    const backing = base && { path: await this.#pathOf(base.name, wait), format: base.format }
    const blank = await blanks.take(capacityBytes, wait)
    try {
      await address(blank, { sizeBytes: capacityBytes, ...(backing && { backing }) })
      await keys.keep({ id, vm, volume, passphrase: blank.passphrase })
      return blank
    } catch (error) {
      await blank[Symbol.asyncDispose]()
      throw error
    }
  }

  async #pathOf(volume: string, wait: Wait): Promise<string> {
    const found = await this.#options.hypervisor.findVolume(volume, wait)
    if (found !== undefined) return found.path
    throw new HostletError('E_NOT_FOUND', `base volume ${volume} does not exist`)
  }
}

async function address({ path }: BlankDisk, identity: DiskIdentity): Promise<void> {
  await using file = await open(path, 'r+')
  const first = Buffer.alloc(clusterBytes)
  await file.read(first, 0, clusterBytes, 0)
  await file.write(asDisk(first, identity), 0, clusterBytes, 0)
}
