// What encrypted disks ask of the hypervisor besides the rest of the port: files of other making as disks, their bytes, and the keys that open them.

import type { Readable } from 'node:stream'
import type { imageFormats } from '../../protocol/vm.ts'
import type { Wait } from './hypervisor.ts'

export interface StoredDisk {
  readonly name: string
  /** Of the qcow2 file. */
  readonly sizeBytes: number
  /** Of the disk in it. */
  readonly capacityBytes: number
  /** The base volume that the file names as its backing. */
  readonly base?: { readonly name: string; readonly format: (typeof imageFormats)[number] }
}

export interface VolumeRange {
  readonly offsetBytes: number
  readonly lengthBytes: number
}

export interface SealedHypervisor {
  /** Uploads a qcow2 as a disk. Destroys `content` in any case; leaves nothing when it fails. E_CONFLICT when the name exists. */
  storeDisk(disk: StoredDisk, content: Readable, wait: Wait): Promise<void>
  /** Some bytes of a volume, as they are stored. */
  readRange(name: string, range: VolumeRange, wait: Wait): Promise<Buffer>
  /** Writes bytes over those of a volume that no VM uses. Durable when it resolves. After a failure some may be written. */
  writeRange(name: string, offsetBytes: number, bytes: Buffer, wait: Wait): Promise<void>

  /** Tells the key of a disk until the hypervisor restarts; it is written nowhere. A second time replaces it. */
  defineSecret(secret: { id: string; passphrase: string }, wait: Wait): Promise<void>
  /** No effect when there is none. */
  removeSecret(id: string, wait: Wait): Promise<void>
}
