// Files that disks are restored to, for the hypervisor in memory: made in a directory, read back as plain qcow2.

import type { Buffer } from 'node:buffer'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { MemoryDisk } from './memory-disk.ts'
import { readQcow2Header } from './qcow2-header.ts'
import { isLuksQcow2, qcow2Bytes } from './qcow2-luks.ts'

const offsetMask = 0x00ff_ffff_ffff_fe00n
const readsAsZero = 1n
const compressed = 1n << 62n

export class MemoryImports implements Disposable {
  readonly #given: string | undefined
  #made: string | undefined

  /** Without a directory, one of its own is made when first needed, and removed at the end. */
  constructor(directory: string | undefined) {
    this.#given = directory
  }

  create(name: string): string {
    const path = join(this.#directory(), name)
    writeFileSync(path, '', { mode: 0o600 })
    return path
  }

  /** Throws E_BAD_REQUEST when it is no qcow2 that stands alone. */
  read(name: string): { disk: MemoryDisk; content?: Buffer } {
    const file = readFileSync(join(this.#directory(), name))
    if (!isLuksQcow2(file)) return { disk: diskIn(file) }
    // Encrypted, what is in it is not looked at.
    return { disk: new MemoryDisk(qcow2Bytes(file)), content: file }
  }

  remove(name: string): void {
    rmSync(join(this.#directory(), name), { force: true })
  }

  [Symbol.dispose](): void {
    if (this.#made !== undefined) rmSync(this.#made, { recursive: true, force: true })
    this.#made = undefined
  }

  #directory(): string {
    if (this.#given === undefined) {
      this.#made ??= mkdtempSync(join(tmpdir(), 'hostlet-memory-pool-'))
      return this.#made
    }
    mkdirSync(this.#given, { recursive: true })
    return this.#given
  }
}

/** Uncompressed images only: what a restore writes. */
function diskIn(file: Buffer): MemoryDisk {
  const { virtualSizeBytes } = readQcow2Header(file)
  const clusterBytes = 2 ** file.readUInt32BE(20)
  const entries = clusterBytes / 8
  const disk = new MemoryDisk(virtualSizeBytes)
  const tableAt = Number(file.readBigUInt64BE(40))
  for (let first = 0; first < file.readUInt32BE(36); first++) {
    const second = Number(file.readBigUInt64BE(tableAt + first * 8) & offsetMask)
    if (second === 0) continue
    for (let index = 0; index < entries; index++) {
      const entry = file.readBigUInt64BE(second + index * 8)
      const at = Number(entry & offsetMask)
      if (at === 0 || (entry & readsAsZero) !== 0n) continue
      if ((entry & compressed) !== 0n) throw new Error('compressed clusters are not read here')
      const offset = (first * entries + index) * clusterBytes
      const length = Math.min(clusterBytes, virtualSizeBytes - offset)
      if (length > 0) disk.write(offset, file.subarray(at, at + length))
    }
  }
  return disk
}
