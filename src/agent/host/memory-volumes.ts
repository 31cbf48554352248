// The volumes of the hypervisor in memory: their bytes, and how full their pool is.

import { Buffer } from 'node:buffer'
import { Readable } from 'node:stream'
import { HostletError } from '../../errors.ts'
import type { Placement, VolumeRecord } from './hypervisor.ts'
import type { VolumeSurvey } from './inventory-port.ts'
import { MemoryDisk } from './memory-disk.ts'
import { MemoryImports } from './memory-import.ts'
import type { StoredDisk, VolumeRange } from './sealed-port.ts'

/**
 * A base image, stored as bytes, or a disk; an encrypted disk is both, and what it shows is its base. A file that a disk is
 * restored to is neither until it is finished.
 */
interface MemoryVolume {
  readonly content?: Buffer
  readonly disk?: MemoryDisk
  readonly capacityBytes: number
  readonly path?: string
  readonly backing?: string
  /** What a test says of it. */
  readonly survey?: Partial<VolumeSurvey>
}

const poolBytesDefault = 1024 ** 3
/** What a new qcow2 takes. */
const newDiskBytes = 200 * 1024

export class MemoryVolumes {
  readonly capacityBytes: number
  readonly #path: string
  readonly #imports: MemoryImports
  readonly #volumes = new Map<string, MemoryVolume>()

  constructor({ poolBytes = poolBytesDefault, poolPath }: { poolBytes?: number; poolPath?: string }) {
    this.capacityBytes = poolBytes
    this.#path = poolPath ?? '/memory'
    this.#imports = new MemoryImports(poolPath)
  }

  get availableBytes(): number {
    const used = this.list().reduce((sum, { allocationBytes }) => sum + allocationBytes, 0)
    return Math.max(0, this.capacityBytes - used)
  }

  has(name: string): boolean {
    return this.#volumes.has(name)
  }

  disk(name: string): MemoryDisk | undefined {
    return this.#volumes.get(name)?.disk
  }

  list(): VolumeRecord[] {
    return [...this.#volumes].map(([name, { content, capacityBytes, path }]) => ({
      name,
      path: path ?? `${this.#path}/${name}`,
      capacityBytes,
      allocationBytes: content?.length ?? newDiskBytes
    }))
  }

  survey(): VolumeSurvey[] {
    return this.list().map(({ name, path }) => {
      const { disk, content, backing, survey } = this.#require(name)
      const format = disk === undefined ? 'raw' : 'qcow2'
      const encrypted = disk !== undefined && content !== undefined
      const common = { name, path, format, encrypted, ownerUid: 0, changedAt: 0 }
      return { ...common, backing: backing === undefined ? undefined : `${this.#path}/${backing}`, ...survey }
    })
  }

  /** Has a volume look otherwise than it was made. */
  describe(name: string, survey: Partial<VolumeSurvey>): void {
    this.#volumes.set(name, { ...this.#require(name), survey })
  }

  async upload(
    { name, sizeBytes }: { name: string; sizeBytes: number },
    content: Readable,
    signal: AbortSignal
  ): Promise<void> {
    if (this.#volumes.has(name)) throw new HostletError('E_CONFLICT', `volume ${name} exists already`)
    this.#requireSpace(sizeBytes)
    const chunks: Buffer[] = []
    for await (const chunk of content) chunks.push(Buffer.from(chunk))
    signal.throwIfAborted()
    this.#volumes.set(name, { content: Buffer.concat(chunks), capacityBytes: sizeBytes })
  }

  read(name: string): Readable {
    return Readable.from([this.#require(name).content ?? Buffer.alloc(0)])
  }

  /** A disk on a raw base begins with its bytes; what is in a qcow2 base is not looked at. */
  create(volume: { name: string; capacityBytes: number; base?: string; baseFormat?: string }): void {
    const { name, capacityBytes, base, baseFormat } = volume
    if (this.#volumes.has(name)) return
    if (base !== undefined && !this.#volumes.has(base))
      throw new HostletError('E_NOT_FOUND', `base volume ${base} does not exist`)
    this.#requireSpace(newDiskBytes)
    const disk = this.#diskOn({ capacityBytes, base, baseFormat })
    this.#volumes.set(name, { disk, capacityBytes, ...(base !== undefined && { backing: base }) })
  }

  async storeDisk({ base, ...disk }: StoredDisk, content: Readable, signal: AbortSignal): Promise<void> {
    await this.upload(disk, content, signal).finally(() => content.destroy())
    const { name, capacityBytes } = disk
    const shown = this.#diskOn({ capacityBytes, base: base?.name, baseFormat: base?.format })
    const backing = base === undefined ? {} : { backing: base.name }
    this.#volumes.set(name, { ...this.#volumes.get(name), disk: shown, capacityBytes, ...backing })
  }

  readRange(name: string, { offsetBytes, lengthBytes }: VolumeRange): Buffer {
    const bytes = this.#require(name).content?.subarray(offsetBytes, offsetBytes + lengthBytes)
    if (bytes?.length === lengthBytes) return Buffer.from(bytes)
    throw new HostletError('E_CORRUPT', `volume ${name} ends before byte ${offsetBytes + lengthBytes}`)
  }

  writeRange(name: string, offsetBytes: number, bytes: Buffer): void {
    const volume = this.#require(name)
    const content = Buffer.from(volume.content ?? [])
    bytes.copy(content, offsetBytes)
    this.#volumes.set(name, { ...volume, content })
  }

  /** What a machine with these disks needs to start. */
  requireDisks(vm: string, { rootVolume, dataVolume }: Placement): void {
    for (const disk of [rootVolume, dataVolume]) {
      if (disk !== null && !this.has(disk))
        throw new HostletError('E_LIBVIRT', `start VM ${vm}: cannot access storage file ${disk}`)
    }
  }

  grow(name: string, capacityBytes: number): void {
    const volume = this.#require(name)
    if (volume.capacityBytes >= capacityBytes) return
    volume.disk?.grow(capacityBytes)
    this.#volumes.set(name, { ...volume, capacityBytes })
  }

  createImport({ name, sizeBytes }: { name: string; sizeBytes: number }): { path: string } {
    this.#requireSpace(newDiskBytes)
    const path = this.#imports.create(name)
    this.#volumes.set(name, { capacityBytes: sizeBytes, path })
    return { path }
  }

  finishImport(name: string): void {
    const volume = this.#require(name)
    const { disk, content } = this.#imports.read(name)
    this.#volumes.set(name, { ...volume, disk, capacityBytes: disk.sizeBytes, ...(content && { content }) })
  }

  remove(name: string): void {
    if (this.#volumes.get(name)?.path !== undefined) this.#imports.remove(name)
    this.#volumes.delete(name)
  }

  spoil(name: string, content: Buffer): void {
    this.#volumes.set(name, { content, capacityBytes: content.length })
  }

  close(): void {
    this.#imports[Symbol.dispose]()
  }

  #diskOn(disk: {
    capacityBytes: number
    base: string | undefined
    baseFormat: string | undefined
  }): MemoryDisk {
    const { capacityBytes, base, baseFormat } = disk
    const made = new MemoryDisk(capacityBytes)
    const content = base !== undefined && baseFormat === 'raw' ? this.#volumes.get(base)?.content : undefined
    if (content !== undefined) made.write(0, content.subarray(0, capacityBytes))
    return made
  }

  #require(name: string): MemoryVolume {
    const volume = this.#volumes.get(name)
    if (volume !== undefined) return volume
    throw new HostletError('E_NOT_FOUND', `volume ${name} does not exist`)
  }

  #requireSpace(sizeBytes: number): void {
    if (this.availableBytes < sizeBytes) throw new HostletError('E_CAPACITY', 'the pool is full')
  }
}
