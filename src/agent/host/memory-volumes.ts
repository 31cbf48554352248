// The volumes of the hypervisor in memory: their bytes, and how full their pool is.

import { Buffer } from 'node:buffer'
import { Readable } from 'node:stream'
import { HostletError } from '../../errors.ts'
import type { VolumeRecord } from './hypervisor.ts'
import { MemoryDisk } from './memory-disk.ts'
import { MemoryImports } from './memory-import.ts'

/** A base image, stored as bytes, or a disk. A file that a disk is restored to is neither until it is finished. */
interface MemoryVolume {
  readonly content?: Buffer
  readonly disk?: MemoryDisk
  readonly capacityBytes: number
  readonly path?: string
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
    const volume = this.#volumes.get(name)
    if (volume === undefined) throw new HostletError('E_NOT_FOUND', `volume ${name} does not exist`)
    return Readable.from([volume.content ?? Buffer.alloc(0)])
  }

  /** A disk on a raw base begins with its bytes; what is in a qcow2 base is not looked at. */
  create(volume: { name: string; capacityBytes: number; base?: string; baseFormat?: string }): void {
    const { name, capacityBytes, base, baseFormat } = volume
    if (this.#volumes.has(name)) return
    if (base !== undefined && !this.#volumes.has(base))
      throw new HostletError('E_NOT_FOUND', `base volume ${base} does not exist`)
    this.#requireSpace(newDiskBytes)
    const disk = new MemoryDisk(capacityBytes)
    const content = base !== undefined && baseFormat === 'raw' ? this.#volumes.get(base)?.content : undefined
    if (content !== undefined) disk.write(0, content.subarray(0, capacityBytes))
    this.#volumes.set(name, { disk, capacityBytes })
  }

  grow(name: string, capacityBytes: number): void {
    const volume = this.#volumes.get(name)
    if (volume === undefined) throw new HostletError('E_NOT_FOUND', `volume ${name} does not exist`)
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
    const path = this.#volumes.get(name)?.path
    if (path === undefined) throw new HostletError('E_NOT_FOUND', `volume ${name} does not exist`)
    const disk = this.#imports.read(name)
    this.#volumes.set(name, { disk, path, capacityBytes: disk.sizeBytes })
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

  #requireSpace(sizeBytes: number): void {
    if (this.availableBytes < sizeBytes) throw new HostletError('E_CAPACITY', 'the pool is full')
  }
}
