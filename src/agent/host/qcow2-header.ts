// Reads the header of a qcow2 image, and refuses what would make QEMU open anything else than the image itself.

import type { Buffer } from 'node:buffer'
import { HostletError } from '../../errors.ts'

/** Enough for the header and its extensions as every tool writes them; longer ones are refused. */
export const headerBytesMax = 4_096
const headerBytesMin = 72
const headerBytesVersion3 = 104
const magic = 0x514649fb
/** Incompatible features that an image may have: dirty refcounts, compression type, extended L2 entries. */
const dirty = 1n << 0n
const corrupt = 1n << 1n
const externalData = 1n << 2n
const compressionType = 1n << 3n
const extendedL2 = 1n << 4n
const known = dirty | corrupt | externalData | compressionType | extendedL2
const extensions = {
  end: 0,
  backingFormat: 0xe2792aca,
  externalDataName: 0x44415441,
  encryption: 0x0537be77
} as const
const clusterBitsMin = 9
const clusterBitsMax = 21

export interface Qcow2Facts {
  readonly virtualSizeBytes: number
}

/** Checks the start of an image. Throws E_BAD_REQUEST. Source: QEMU docs/interop/qcow2.txt. */
export function readQcow2Header(start: Buffer): Qcow2Facts {
  if (start.length < headerBytesMin || start.readUInt32BE(0) !== magic)
    throw refuse('it is not a qcow2 image')
  const version = start.readUInt32BE(4)
  if (version !== 2 && version !== 3) throw refuse(`its qcow2 version is ${version}, not 2 or 3`)
  if (start.readBigUInt64BE(8) !== 0n || start.readUInt32BE(16) !== 0)
    throw refuse('it has a backing file: flatten it with "qemu-img convert"')
  const clusterBits = start.readUInt32BE(20)
  if (clusterBits < clusterBitsMin || clusterBits > clusterBitsMax)
    throw refuse('its cluster size is out of range')
  if (start.readUInt32BE(32) !== 0) throw refuse('it is encrypted')
  if (version === 3) checkVersion3(start)
  else checkExtensions(start, headerBytesMin)
  return { virtualSizeBytes: sizeOf(start.readBigUInt64BE(24)) }
}

function checkVersion3(start: Buffer): void {
  if (start.length < headerBytesVersion3) throw refuse('it ends within its header')
  const features = start.readBigUInt64BE(72)
  if ((features & externalData) !== 0n) throw refuse('it keeps its data in another file')
  if ((features & corrupt) !== 0n) throw refuse('it is marked corrupt: see "qemu-img check"')
  if ((features & ~known) !== 0n) throw refuse('it has features that are not known here')
  const headerBytes = start.readUInt32BE(100)
  if (headerBytes < headerBytesVersion3 || headerBytes > headerBytesMax)
    throw refuse('its header has a wrong length')
  checkExtensions(start, headerBytes)
}

/** The features may be silent about what an extension says. */
function checkExtensions(start: Buffer, from: number): void {
  for (let at = from; at + 8 <= start.length; ) {
    const type = start.readUInt32BE(at)
    if (type === extensions.end) return
    if (type === extensions.externalDataName) throw refuse('it keeps its data in another file')
    if (type === extensions.backingFormat) throw refuse('it names the format of a backing file')
    if (type === extensions.encryption) throw refuse('it is encrypted')
    // Each is padded to eight bytes.
    at += 8 + Math.ceil(start.readUInt32BE(at + 4) / 8) * 8
  }
  // Version 2 had none, and its tools need not write an end.
  if (from !== headerBytesMin) throw refuse('its header does not end where it should')
}

function sizeOf(size: bigint): number {
  if (size > 0n && size <= BigInt(Number.MAX_SAFE_INTEGER)) return Number(size)
  throw refuse('its virtual size is out of range')
}

function refuse(why: string): HostletError {
  return new HostletError('E_BAD_REQUEST', `the image cannot be used: ${why}`)
}
