// The parts of a qcow2 image that need no I/O: header, entries, and how many clusters its bookkeeping takes.
// Source: QEMU's docs/interop/qcow2.rst, version 3 ("compat 1.1").

import { blockBytes } from '../disk.ts'

/** Clusters are as long as our blocks, so that no write touches half of one. */
export const clusterBytes = blockBytes
const clusterBits = 16
/** References of one L2 table or entries of one part of the L1 table: 8 bytes each. */
export const entriesPerCluster = clusterBytes / 8
/** Bytes of the disk that one L2 table covers: 512 MiB. */
export const tableSpanBytes = entriesPerCluster * clusterBytes
/** Clusters that one block of 16-bit reference counts covers. */
const countsPerCluster = clusterBytes / 2
const refcountOrder = 4
const headerBytes = 112
const sectorBytes = 512
/** Type of the header extension that names feature bits, and of the end of all. */
const endOfExtensions = 0
/** Set where the cluster's reference count is exactly one, so that QEMU may write it in place. */
const copied = 1n << 63n

export interface Qcow2Shape {
  readonly sizeBytes: number
  /** Entries of the L1 table. */
  readonly tables: number
  /** Clusters that the L1 table takes. */
  readonly rootClusters: number
}

export function shapeOf(sizeBytes: number): Qcow2Shape {
  // An image of nothing has a table as well: QEMU counts its cluster only then.
  const tables = Math.max(1, Math.ceil(sizeBytes / tableSpanBytes))
  return { sizeBytes, tables, rootClusters: Math.max(1, Math.ceil(tables / entriesPerCluster)) }
}

export interface RefcountLayout {
  /** First cluster of the table of reference count blocks; the blocks follow it. */
  readonly firstCluster: number
  readonly tableClusters: number
  readonly blocks: number
  /** Clusters of the whole file. */
  readonly totalClusters: number
}

/** Reference counts stand at the end, after `used` clusters, and count themselves. */
export function layOutRefcounts(used: number): RefcountLayout {
  let blocks = 0
  let tableClusters = 0
  for (;;) {
    const totalClusters = used + tableClusters + blocks
    const wantedBlocks = Math.ceil(totalClusters / countsPerCluster)
    const wantedTable = Math.ceil(wantedBlocks / entriesPerCluster)
    if (wantedBlocks === blocks && wantedTable === tableClusters)
      return { firstCluster: used, tableClusters, blocks, totalClusters }
    blocks = wantedBlocks
    tableClusters = wantedTable
  }
}

/** Offsets of the reference count blocks. */
export function refcountTable({ firstCluster, tableClusters, blocks }: RefcountLayout): Buffer {
  const table = Buffer.alloc(tableClusters * clusterBytes)
  for (let block = 0; block < blocks; block++)
    table.writeBigUInt64BE(BigInt((firstCluster + tableClusters + block) * clusterBytes), block * 8)
  return table
}

/** Every cluster of the file is used once. */
export function refcountBlock({ totalClusters }: RefcountLayout, block: number): Buffer {
  const counts = Buffer.alloc(clusterBytes)
  const used = Math.min(countsPerCluster, totalClusters - block * countsPerCluster)
  for (let index = 0; index < used; index++) counts.writeUInt16BE(1, index * 2)
  return counts
}

/** An entry of an L1 or L2 table that points to a cluster. */
export function pointerTo(cluster: number): bigint {
  return BigInt(cluster * clusterBytes) | copied
}

export function clusterOf(pointer: bigint): number {
  return Number(pointer & ~copied) / clusterBytes
}

export function encodeHeader({ sizeBytes, tables }: Qcow2Shape, refcounts: RefcountLayout): Buffer {
  const header = Buffer.alloc(clusterBytes)
  header.write('QFI\xfb', 0, 'latin1')
  header.writeUInt32BE(3, 4)
  // No backing file (8, 16), no encryption (32), no snapshots (60, 64), no feature bits (72, 80, 88).
  header.writeUInt32BE(clusterBits, 20)
  // QEMU counts whole sectors, and would leave out the rest of a last one.
  header.writeBigUInt64BE(BigInt(Math.ceil(sizeBytes / sectorBytes) * sectorBytes), 24)
  header.writeUInt32BE(tables, 36)
  header.writeBigUInt64BE(BigInt(clusterBytes), 40)
  header.writeBigUInt64BE(BigInt(refcounts.firstCluster * clusterBytes), 48)
  header.writeUInt32BE(refcounts.tableClusters, 56)
  header.writeUInt32BE(refcountOrder, 96)
  header.writeUInt32BE(headerBytes, 100)
  header.writeUInt32BE(endOfExtensions, headerBytes)
  return header
}
