// A disk as a qcow2 file: data clusters in the order of their writing, tables beside them, reference counts and header last.

import { readSync, writeSync } from 'node:fs'
import type { FileHandle } from 'node:fs/promises'
import { HostletError } from '../../errors.ts'
import type { DiskTarget, TargetFile, Wait } from '../disk.ts'
import { BackgroundFlush, createFile, fileFault, finishFile, removeFile, writeAll } from './new-file.ts'
import {
  clusterBytes,
  clusterOf,
  encodeHeader,
  entriesPerCluster,
  layOutRefcounts,
  pointerTo,
  type Qcow2Shape,
  refcountBlock,
  refcountTable,
  shapeOf
} from './qcow2-layout.ts'
import { checkRange, checkSize, writesInFlightMax } from './ranges.ts'

/** L2 tables in memory at once, 64 KiB each; a restore goes through a disk in order and needs two or three. */
const tablesInMemoryMax = 64

export interface Qcow2Options {
  /** Takes a file that is there (of a pool, with its owner and label) and empties it. */
  readonly reuse?: boolean
}

/**
 * Makes a sparse image of version 3 with clusters of 64 KiB and no backing file. Until `finish` it has no header and is
 * no image. Throws E_CONFLICT when the file exists.
 */
export async function createQcow2File(
  path: string,
  sizeBytes: number,
  options: Qcow2Options = {}
): Promise<DiskTarget> {
  checkSize(sizeBytes)
  const file = await createFile(path, options)
  try {
    // Longer than it will be, and cut at the end: a file that grows with each write costs nearly twice as much.
    await file.truncate(sizeBytes)
  } catch (error) {
    await removeFile(file, path)
    throw fileFault(error, path)
  }
  return new Qcow2File(file, path, shapeOf(sizeBytes))
}

class Qcow2File implements DiskTarget {
  readonly writesInFlightMax = writesInFlightMax
  readonly #file: FileHandle
  readonly #path: string
  readonly #shape: Qcow2Shape
  /** The L1 table. */
  readonly #root: BigUint64Array
  /** L2 tables in memory, the least recently used first. */
  readonly #tables = new Map<number, BigUint64Array>()
  readonly #flush: BackgroundFlush
  #nextCluster: number
  #over = false

  constructor(file: FileHandle, path: string, shape: Qcow2Shape) {
    this.#file = file
    this.#path = path
    this.#flush = new BackgroundFlush(file, path)
    this.#shape = shape
    this.#root = new BigUint64Array(shape.rootClusters * entriesPerCluster)
    this.#nextCluster = 1 + shape.rootClusters
  }

  get sizeBytes(): number {
    return this.#shape.sizeBytes
  }

  get file(): TargetFile {
    return {
      descriptor: this.#file.fd,
      path: this.#path,
      placeOf: (offset) => {
        checkRange(offset, 0, this.sizeBytes)
        return this.#clusterAt(offset / clusterBytes) * clusterBytes
      },
      written: (bytes) => this.#flush.written(bytes)
    }
  }

  /** `offset` lies at the beginning of a cluster, and only the disk's end may cut a cluster short. */
  async write(offset: number, data: Uint8Array, { signal }: Wait): Promise<void> {
    signal.throwIfAborted()
    checkRange(offset, data.length, this.sizeBytes)
    const end = offset + data.length
    if (offset % clusterBytes !== 0 || (end % clusterBytes !== 0 && end !== this.sizeBytes))
      throw new HostletError(
        'E_INTERNAL',
        `a write at ${offset} of ${data.length} bytes is not of whole clusters`
      )
    for (const run of this.#runs(offset, data.length))
      await writeAll(this.#file, this.#path, data.subarray(run.from, run.to), run.cluster * clusterBytes)
    this.#flush.written(data.length)
  }

  async finish({ signal }: Wait): Promise<void> {
    signal.throwIfAborted()
    await this.#flush.end()
    for (const [index, table] of this.#tables) this.#storeTable(index, table)
    this.#tables.clear()
    await this.#put(1, swapped(this.#root))
    const refcounts = layOutRefcounts(this.#nextCluster)
    await this.#put(refcounts.firstCluster, refcountTable(refcounts))
    for (let block = 0; block < refcounts.blocks; block++) {
      signal.throwIfAborted()
      await this.#put(
        refcounts.firstCluster + refcounts.tableClusters + block,
        refcountBlock(refcounts, block)
      )
    }
    await this.#cut(refcounts.totalClusters * clusterBytes)
    // Last, and after everything that it speaks of.
    await this.#put(0, encodeHeader(this.#shape, refcounts))
    await finishFile(this.#file, this.#path)
    this.#over = true
  }

  async abort(): Promise<void> {
    if (this.#over) return
    this.#over = true
    // Only so that none runs any more: the file goes anyway.
    await this.#flush.end().catch(() => undefined)
    await removeFile(this.#file, this.#path)
  }

  /** Where in the file each part of the data goes: neighbours that are also neighbours there make one run. */
  #runs(offset: number, length: number): { from: number; to: number; cluster: number }[] {
    const runs: { from: number; to: number; cluster: number }[] = []
    for (let from = 0; from < length; from += clusterBytes) {
      const to = Math.min(length, from + clusterBytes)
      const cluster = this.#clusterAt((offset + from) / clusterBytes)
      const last = runs.at(-1)
      if (last !== undefined && last.cluster + (from - last.from) / clusterBytes === cluster) last.to = to
      else runs.push({ from, to, cluster })
    }
    return runs
  }

  /** The cluster of the file that holds one of the disk, given one where it has none. */
  #clusterAt(index: number): number {
    const table = this.#table(Math.floor(index / entriesPerCluster))
    const slot = index % entriesPerCluster
    const pointer = table[slot] ?? 0n
    if (pointer !== 0n) return clusterOf(pointer)
    const cluster = this.#nextCluster++
    table[slot] = pointerTo(cluster)
    return cluster
  }

  #table(index: number): BigUint64Array {
    const table = this.#tables.get(index) ?? this.#loadTable(index)
    this.#tables.delete(index)
    this.#tables.set(index, table)
    const [oldest] = this.#tables
    if (this.#tables.size > tablesInMemoryMax && oldest !== undefined) {
      this.#storeTable(...oldest)
      this.#tables.delete(oldest[0])
    }
    return table
  }

  // Tables are read and written at once: once in 512 MiB of disk, and no write may come between.

  #loadTable(index: number): BigUint64Array {
    const pointer = this.#root[index] ?? 0n
    if (pointer === 0n) {
      this.#root[index] = pointerTo(this.#nextCluster++)
      return new BigUint64Array(entriesPerCluster)
    }
    const bytes = Buffer.alloc(clusterBytes)
    try {
      readSync(this.#file.fd, bytes, 0, clusterBytes, clusterOf(pointer) * clusterBytes)
    } catch (error) {
      throw fileFault(error, this.#path)
    }
    return new BigUint64Array(bytes.swap64().buffer, bytes.byteOffset, entriesPerCluster)
  }

  #storeTable(index: number, table: BigUint64Array): void {
    const at = clusterOf(this.#root[index] ?? 0n) * clusterBytes
    const bytes = swapped(table)
    try {
      for (let done = 0; done < bytes.length; )
        done += writeSync(this.#file.fd, bytes, done, bytes.length - done, at + done)
    } catch (error) {
      throw fileFault(error, this.#path)
    }
  }

  #put(cluster: number, bytes: Uint8Array): Promise<void> {
    return writeAll(this.#file, this.#path, bytes, cluster * clusterBytes)
  }

  /** The file is as long as its clusters, and on disk. */
  async #cut(bytes: number): Promise<void> {
    try {
      await this.#file.truncate(bytes)
      await this.#file.sync()
    } catch (error) {
      throw fileFault(error, this.#path)
    }
  }
}

/** Big-endian bytes of a table. Node runs on little-endian machines only. */
function swapped(table: BigUint64Array): Buffer {
  return Buffer.from(
    table.buffer.slice(table.byteOffset, table.byteOffset + table.byteLength) as ArrayBuffer
  ).swap64()
}
