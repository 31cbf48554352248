// Nodes of the tree that is a snapshot of a disk: leaves hold references to blocks, inner nodes to nodes, 1,024 each.

import { HostletError } from '../../errors.ts'
import { blockBytes } from '../disk.ts'
import { corrupt, type Place } from './corrupt.ts'
import { formatVersion } from './entry.ts'
import { addressBytes, packIdBytes } from './keys.ts'
import { entryNumberMax } from './pack.ts'

export const nodeSlots = 1024
/** A leaf has level 0. Three levels above the leaves are enough for any size that a number holds. */
export const nodeLevelMax = 3
/** version u8, level u8, references u16, packs u16, zero u16; numbers are big-endian. */
const headBytes = 8
/** Slot n is bit n % 8 (1 is the lowest) of byte n / 8. */
const bitmapBytes = nodeSlots / 8
/** index of the pack u16, entry number u32. */
const rowBytes = 6
export const nodeBytesMax = headBytes + bitmapBytes + nodeSlots * (packIdBytes + rowBytes + addressBytes)

/** Where a block or a node is stored, and what it is. */
export interface Reference {
  readonly address: Uint8Array
  readonly pack: Uint8Array
  readonly entry: number
}

export type BlockReference = Reference
export type NodeReference = Reference

export function sameReference(one: Reference | null, other: Reference | null): boolean {
  if (one === null || other === null) return one === other
  return (
    one.entry === other.entry &&
    Buffer.compare(one.address, other.address) === 0 &&
    Buffer.compare(one.pack, other.pack) === 0
  )
}

/** `<pack>.<entry>.<address>`, hexadecimal but for the entry: for manifests. */
export function referenceText({ pack, entry, address }: Reference): string {
  return `${Buffer.from(pack).toString('hex')}.${entry}.${Buffer.from(address).toString('hex')}`
}

/** Throws E_CORRUPT at `place` for anything but what `referenceText` gives. */
export function parseReference(text: string, place: Place): Reference {
  const [, pack, entry, address] = /^([0-9a-f]{32})\.(0|[1-9][0-9]{0,9})\.([0-9a-f]{64})$/.exec(text) ?? []
  if (pack === undefined || address === undefined || Number(entry) > entryNumberMax)
    throw corrupt(place, 'a reference that is none')
  return { pack: Buffer.from(pack, 'hex'), entry: Number(entry), address: Buffer.from(address, 'hex') }
}

/** Blocks of a disk; the last one is padded with zeros. */
export function blocksOf(sizeBytes: number): number {
  return Math.ceil(sizeBytes / blockBytes)
}

/** Blocks under one reference of a node of this level: 1 in a leaf. */
export function blocksPerSlot(level: number): number {
  return nodeSlots ** level
}

/** Levels of the tree of a disk of this size: at least 1, the root being a leaf. */
export function treeLevels(sizeBytes: number): number {
  if (!Number.isSafeInteger(sizeBytes) || sizeBytes < 0)
    throw new HostletError('E_BAD_REQUEST', `${sizeBytes} is no size of a disk`)
  let levels = 1
  while (blocksPerSlot(levels) < blocksOf(sizeBytes)) levels++
  return levels
}

/** The references of one node. A slot that holds none stands for zeros. */
export class TreeNode {
  readonly level: number
  readonly #present = new Uint8Array(nodeSlots)
  readonly #addresses = Buffer.alloc(nodeSlots * addressBytes)
  readonly #packs = Buffer.alloc(nodeSlots * packIdBytes)
  readonly #entries = new Uint32Array(nodeSlots)
  #count = 0

  constructor(level: number) {
    this.level = level
  }

  /** How many slots hold a reference. */
  get count(): number {
    return this.#count
  }

  /** As new. */
  clear(): void {
    this.#present.fill(0)
    this.#count = 0
  }

  /** Views of the node's own memory: valid until the slot is set. */
  get(slot: number): Reference | null {
    if (this.#present[slot] !== 1) return null
    return {
      address: this.#addresses.subarray(slot * addressBytes, (slot + 1) * addressBytes),
      pack: this.#packs.subarray(slot * packIdBytes, (slot + 1) * packIdBytes),
      entry: this.#entries[slot] ?? 0
    }
  }

  set(slot: number, reference: Reference | null): void {
    if (!Number.isInteger(slot) || slot < 0 || slot >= nodeSlots)
      throw new HostletError('E_INTERNAL', `a node has no slot ${slot}`)
    this.#count += (reference === null ? 0 : 1) - (this.#present[slot] ?? 0)
    this.#present[slot] = reference === null ? 0 : 1
    if (reference === null) return
    this.#addresses.set(reference.address, slot * addressBytes)
    this.#packs.set(reference.pack, slot * packIdBytes)
    this.#entries[slot] = reference.entry
  }

  /** The slots that hold a reference, in order. */
  *references(): Generator<[slot: number, reference: Reference]> {
    for (let slot = 0; slot < nodeSlots; slot++) {
      const reference = this.get(slot)
      if (reference !== null) yield [slot, reference]
    }
  }
}

/** The one encoding of a node: head, bitmap, pack ids by first use, rows, addresses. Equal nodes have equal encodings. */
export function encodeNode(node: TreeNode): Buffer {
  if (node.count === 0) throw new HostletError('E_INTERNAL', 'a node without references is never stored')
  const packs = new Map<string, number>()
  for (const [, { pack }] of node.references()) {
    const id = Buffer.from(pack).toString('latin1')
    if (!packs.has(id)) packs.set(id, packs.size)
  }
  const rowsAt = headBytes + bitmapBytes + packs.size * packIdBytes
  const bytes = Buffer.alloc(rowsAt + node.count * (rowBytes + addressBytes))
  bytes.writeUInt8(formatVersion, 0)
  bytes.writeUInt8(node.level, 1)
  bytes.writeUInt16BE(node.count, 2)
  bytes.writeUInt16BE(packs.size, 4)
  for (const [id, index] of packs) bytes.write(id, headBytes + bitmapBytes + index * packIdBytes, 'latin1')
  writeRows(node, packs, bytes, rowsAt)
  return bytes
}

function writeRows(node: TreeNode, packs: ReadonlyMap<string, number>, bytes: Buffer, rowsAt: number): void {
  let row = rowsAt
  let addressAt = rowsAt + node.count * rowBytes
  for (const [slot, { pack, entry, address }] of node.references()) {
    const bitmapAt = headBytes + (slot >> 3)
    bytes[bitmapAt] = (bytes[bitmapAt] ?? 0) | (1 << (slot & 7))
    row = bytes.writeUInt16BE(packs.get(Buffer.from(pack).toString('latin1')) ?? 0, row)
    row = bytes.writeUInt32BE(entry, row)
    bytes.set(address, addressAt)
    addressAt += addressBytes
  }
}

/**
 * Reads a node that must be of this level, into an empty one where that is given. Throws E_CORRUPT for anything that
 * `encodeNode` does not give.
 */
export function decodeNode(
  encoded: Uint8Array,
  level: number,
  place: Place,
  node = new TreeNode(level)
): TreeNode {
  const bytes = Buffer.from(encoded.buffer, encoded.byteOffset, encoded.byteLength)
  const { count, packCount } = parseHead(bytes, level, place)
  const slots = parseBitmap(bytes)
  if (slots.length !== count) throw corrupt(place, `${slots.length} slots for ${count} references`)
  const packsAt = headBytes + bitmapBytes
  const rowsAt = packsAt + packCount * packIdBytes
  const addressesAt = rowsAt + count * rowBytes
  if (bytes.length !== addressesAt + count * addressBytes)
    throw corrupt(place, `a node of ${bytes.length} bytes`)
  const packs = parsePacks(bytes, packsAt, packCount, place)
  let packsSeen = 0
  slots.forEach((slot, index) => {
    const packIndex = bytes.readUInt16BE(rowsAt + index * rowBytes)
    const entry = bytes.readUInt32BE(rowsAt + index * rowBytes + 2)
    const pack = packs[packIndex]
    if (pack === undefined || packIndex > packsSeen) throw corrupt(place, 'packs of a node out of order')
    if (packIndex === packsSeen) packsSeen++
    const addressAt = addressesAt + index * addressBytes
    node.set(slot, { pack, entry, address: bytes.subarray(addressAt, addressAt + addressBytes) })
  })
  if (packsSeen !== packCount) throw corrupt(place, 'a node names packs that it does not use')
  return node
}

function parseHead(bytes: Buffer, level: number, place: Place): { count: number; packCount: number } {
  if (bytes.length < headBytes + bitmapBytes || bytes.length > nodeBytesMax)
    throw corrupt(place, `a node of ${bytes.length} bytes`)
  if (bytes.readUInt8(0) !== formatVersion || bytes.readUInt16BE(6) !== 0)
    throw corrupt(place, 'a node of an unknown version')
  if (bytes.readUInt8(1) !== level)
    throw corrupt(place, `a node of level ${bytes.readUInt8(1)} where one of level ${level} belongs`)
  const count = bytes.readUInt16BE(2)
  const packCount = bytes.readUInt16BE(4)
  if (count < 1 || count > nodeSlots || packCount < 1 || packCount > count)
    throw corrupt(place, `a node of ${count} references to ${packCount} packs`)
  return { count, packCount }
}

function parseBitmap(bytes: Buffer): number[] {
  const slots: number[] = []
  for (let slot = 0; slot < nodeSlots; slot++)
    if ((bytes[headBytes + (slot >> 3)] ?? 0) & (1 << (slot & 7))) slots.push(slot)
  return slots
}

function parsePacks(bytes: Buffer, at: number, count: number, place: Place): Buffer[] {
  const packs: Buffer[] = []
  const seen = new Set<string>()
  for (let index = 0; index < count; index++) {
    const pack = bytes.subarray(at + index * packIdBytes, at + (index + 1) * packIdBytes)
    packs.push(pack)
    seen.add(pack.toString('latin1'))
  }
  if (seen.size !== count) throw corrupt(place, 'a node names a pack twice')
  return packs
}
