// The volumes of the hypervisor in memory: their bytes, and how full their pool is.

import { Buffer } from 'node:buffer'
import { Readable } from 'node:stream'
import { HostletError } from '../../errors.ts'
import type { VolumeRecord } from './hypervisor.ts'

interface MemoryVolume {
  readonly content: Buffer | undefined
  readonly capacityBytes: number
}

const poolBytesDefault = 1024 ** 3
/** What a new qcow2 takes. */
const newDiskBytes = 200 * 1024

export class MemoryVolumes {
  readonly capacityBytes: number
  readonly #path: string
  readonly #volumes = new Map<string, MemoryVolume>()

  constructor({
    poolBytes = poolBytesDefault,
    poolPath = '/memory'
  }: { poolBytes?: number; poolPath?: string }) {
    this.capacityBytes = poolBytes
    this.#path = poolPath
  }

  get availableBytes(): number {
    const used = this.list().reduce((sum, { allocationBytes }) => sum + allocationBytes, 0)
    return Math.max(0, this.capacityBytes - used)
  }

  has(name: string): boolean {
    return this.#volumes.has(name)
  }

  list(): VolumeRecord[] {
    return [...this.#volumes].map(([name, { content, capacityBytes }]) => ({
      name,
      path: `${this.#path}/${name}`,
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

  create({ name, capacityBytes, base }: { name: string; capacityBytes: number; base?: string }): void {
    if (this.#volumes.has(name)) return
    if (base !== undefined && !this.#volumes.has(base))
      throw new HostletError('E_NOT_FOUND', `base volume ${base} does not exist`)
    this.#requireSpace(newDiskBytes)
    this.#volumes.set(name, { content: undefined, capacityBytes })
  }

  remove(name: string): void {
    this.#volumes.delete(name)
  }

  spoil(name: string, content: Buffer): void {
    this.#volumes.set(name, { content, capacityBytes: content.length })
  }

  #requireSpace(sizeBytes: number): void {
    if (this.availableBytes < sizeBytes) throw new HostletError('E_CAPACITY', 'the pool is full')
  }
}
