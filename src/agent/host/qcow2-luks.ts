// The header of an encrypted qcow2 that was just made: given the size and the backing file of the disk that it becomes; where its keys lie.

import { Buffer } from 'node:buffer'
import { HostletError } from '../../errors.ts'
import type { VolumeRange } from './sealed-port.ts'

/** Source of all numbers: QEMU docs/interop/qcow2.txt. */
const magic = 0x514649fb
const at = {
  backingOffset: 8,
  backingBytes: 16,
  clusterBits: 20,
  size: 24,
  encryption: 32,
  firstTableEntries: 36,
  headerBytes: 100
} as const
const encryptionLuks = 2
const clusterBits = 16
/** As qemu-img makes them by default. */
export const clusterBytes = 2 ** clusterBits
const entriesOfCluster = clusterBytes / 8
/** What one entry of the first table leads to. */
const entryBytes = clusterBytes * entriesOfCluster
/** The largest disk whose first table is one cluster: one made of this size can become any smaller one. */
export const blankBytes = entriesOfCluster * entryBytes
const extensions = { end: 0, backingFormat: 0xe2792aca, encryption: 0x0537be77 } as const
const extensionHeadBytes = 8
const backingPathBytesMax = 1_023

export interface DiskIdentity {
  readonly sizeBytes: number
  readonly backing?: { readonly path: string; readonly format: string }
}

/**
 * The first cluster of a disk that was made for no image, blank, of `blankBytes` or of the right size, as that of another
 * disk: nothing is allocated in it yet, and what LUKS keeps in it depends on neither size nor backing file. Throws
 * E_INTERNAL when it is not such a file.
 */
export function asDisk(first: Buffer, { sizeBytes, backing }: DiskIdentity): Buffer {
  const madeBytes = isLuksQcow2(first) && first.length === clusterBytes ? qcow2Bytes(first) : 0
  if (madeBytes !== sizeBytes && (madeBytes !== blankBytes || sizeBytes > blankBytes))
    throw new HostletError('E_INTERNAL', 'the prepared disk is not as it was made')
  const header = Buffer.from(first)
  if (madeBytes !== sizeBytes) {
    header.writeBigUInt64BE(BigInt(sizeBytes), at.size)
    header.writeUInt32BE(Math.ceil(sizeBytes / entryBytes), at.firstTableEntries)
  }
  if (backing !== undefined) addBacking(header, backing)
  return header
}

export function isLuksQcow2(start: Buffer): boolean {
  return (
    start.length >= at.headerBytes + 4 &&
    start.readUInt32BE(0) === magic &&
    start.readUInt32BE(4) === 3 &&
    start.readUInt32BE(at.clusterBits) === clusterBits &&
    start.readUInt32BE(at.encryption) === encryptionLuks
  )
}

export function qcow2Bytes(start: Buffer): number {
  return Number(start.readBigUInt64BE(at.size))
}

/** Where the LUKS header with its key slots lies in the file. Throws E_CORRUPT. */
export function luksHeaderRange(start: Buffer): VolumeRange {
  const found = isLuksQcow2(start)
    ? extensionsOf(start).find(({ type }) => type === extensions.encryption)
    : undefined
  if (found === undefined)
    throw new HostletError('E_CORRUPT', 'the disk is not the encrypted qcow2 that hostlet makes')
  const data = found.offset + extensionHeadBytes
  return {
    offsetBytes: Number(start.readBigUInt64BE(data)),
    lengthBytes: Number(start.readBigUInt64BE(data + 8))
  }
}

/** The format goes where the end of the extensions was, the path behind the new end. */
function addBacking(header: Buffer, { path, format }: { path: string; format: string }): void {
  const end = extensionsOf(header).at(-1)?.offset ?? header.readUInt32BE(at.headerBytes)
  const formatBytes = Buffer.alloc(Math.ceil(format.length / 8) * 8)
  formatBytes.write(format)
  const pathBytes = Buffer.from(path)
  const head = Buffer.alloc(extensionHeadBytes)
  head.writeUInt32BE(extensions.backingFormat, 0)
  head.writeUInt32BE(format.length, 4)
  const added = Buffer.concat([head, formatBytes, Buffer.alloc(extensionHeadBytes), pathBytes])
  if (pathBytes.length > backingPathBytesMax || end + added.length > header.length)
    throw new HostletError('E_BAD_REQUEST', `${path} is too long for the path of a base image`)
  added.copy(header, end)
  header.writeBigUInt64BE(BigInt(end + added.length - pathBytes.length), at.backingOffset)
  header.writeUInt32BE(pathBytes.length, at.backingBytes)
}

/** The last one is the end. Throws E_CORRUPT where there is none. */
function extensionsOf(header: Buffer): { type: number; offset: number }[] {
  const found: { type: number; offset: number }[] = []
  let offset = header.readUInt32BE(at.headerBytes)
  while (offset + extensionHeadBytes <= header.length) {
    const type = header.readUInt32BE(offset)
    found.push({ type, offset })
    if (type === extensions.end) return found
    offset += extensionHeadBytes + Math.ceil(header.readUInt32BE(offset + 4) / 8) * 8
  }
  throw new HostletError('E_CORRUPT', 'the header of the disk has no end')
}
