// Takes keys back that this host has lost: each is proven on the header of its disk before it is kept.

import { HostletError } from '../../errors.ts'
import type { Hypervisor, VmRecord, Wait } from '../host/hypervisor.ts'
import { opensLuks } from '../host/luks-unlock.ts'
import { clusterBytes, luksHeaderRange } from '../host/qcow2-luks.ts'
import type { DiskKeys } from './disk-keys.ts'
import type { HostKey } from './host-key.ts'

export interface OfferedKey {
  readonly id: string
  /** For the host's key. */
  readonly jwe: string
}

export interface AdoptionOptions {
  readonly disks: DiskKeys
  readonly hostKey: () => HostKey
  readonly hypervisor: Pick<Hypervisor, 'readRange'>
}

export interface Adopted {
  readonly adopted: readonly string[]
  /** Disks of the VM that none of the keys opens. */
  readonly missing: readonly string[]
}

const headerBytesMax = 16 * 1024 ** 2
const readsMax = 3

export class Adoption {
  readonly #options: AdoptionOptions

  constructor(options: AdoptionOptions) {
    this.#options = options
  }

  /**
   * Keeps the keys that open disks of the VM. Safe to repeat. Throws E_AUTH when what is offered is wrapped for another
   * key than this host's, E_BAD_REQUEST when none of it opens a disk of the VM: then nothing is kept.
   */
  async adopt(vm: VmRecord, offered: readonly OfferedKey[], wait: Wait): Promise<Adopted> {
    const { specification: about } = vm
    const adopted: string[] = []
    const missing: string[] = []
    for (const { id, volume } of encryptedDisks(vm)) {
      const passphrase = await this.#fitting(
        volume,
        offered.filter((key) => key.id === id),
        wait
      )
      if (passphrase !== undefined) {
        await this.#options.disks.keep({ id, vm: { name: about.name, uuid: about.uuid }, volume, passphrase })
        adopted.push(id)
      } else if (!(await this.#opens(id, volume, wait))) missing.push(volume)
    }
    if (adopted.length === 0) throw nothingFits(vm, offered)
    return { adopted, missing }
  }

  async #fitting(volume: string, offered: readonly OfferedKey[], wait: Wait): Promise<string | undefined> {
    if (offered.length === 0) return undefined
    const header = await this.#header(volume, wait)
    for (const { jwe } of offered) {
      const passphrase = await this.#options.hostKey().open(jwe)
      if (await opensLuks(header, passphrase)) return passphrase
    }
    return undefined
  }

  /** Whether the host has a key of its own to the disk. */
  async #opens(id: string, volume: string, wait: Wait): Promise<boolean> {
    const { disks } = this.#options
    if (!disks.has(id)) return false
    try {
      return await opensLuks(await this.#header(volume, wait), await disks.unwrap(id, wait))
    } catch (error) {
      if (error instanceof HostletError && (error.code === 'E_AUTH' || error.code === 'E_CORRUPT'))
        return false
      throw error
    }
  }

  /** On a busy machine a stream of libvirt was seen to end early, which looks like a volume cut short: it is read again. */
  async #header(volume: string, wait: Wait): Promise<Buffer> {
    for (let left = readsMax; ; left--) {
      try {
        return await this.#readHeader(volume, wait)
      } catch (error) {
        if (left <= 1 || !(error instanceof HostletError) || error.code !== 'E_CORRUPT') throw error
      }
    }
  }

  async #readHeader(volume: string, wait: Wait): Promise<Buffer> {
    const { hypervisor } = this.#options
    const first = await hypervisor.readRange(volume, { offsetBytes: 0, lengthBytes: clusterBytes }, wait)
    const range = luksHeaderRange(first)
    if (range.lengthBytes > headerBytesMax)
      throw new HostletError('E_CORRUPT', `the header of volume ${volume} is too large to be one`)
    return await hypervisor.readRange(volume, range, wait)
  }
}

export function encryptedDisks({ placement }: Pick<VmRecord, 'placement'>): { id: string; volume: string }[] {
  const { rootKey, rootVolume, dataKey, dataVolume } = placement
  return [
    ...(rootKey === undefined ? [] : [{ id: rootKey, volume: rootVolume }]),
    ...(dataKey === undefined || dataVolume === null ? [] : [{ id: dataKey, volume: dataVolume }])
  ]
}

function nothingFits(vm: VmRecord, offered: readonly OfferedKey[]): HostletError {
  const { name } = vm.specification
  const ids = encryptedDisks(vm).map(({ id }) => id)
  const why =
    ids.length === 0
      ? 'its disks are not encrypted'
      : offered.some(({ id }) => ids.includes(id))
        ? 'those of its disks do not open them: they are of an earlier passphrase, or of other disks'
        : `its disks need ${ids.join(' and ')}`
  return new HostletError(
    'E_BAD_REQUEST',
    `none of the ${offered.length} keys opens a disk of VM ${name}: ${why}. Nothing was kept; see "hostlet vm keys ${name}".`,
    { details: { vm: name } }
  )
}
