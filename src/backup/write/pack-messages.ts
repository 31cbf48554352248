// What the writer and its worker threads say to each other. References travel as fixed rows: no object a block is made on the way.

import { blockBytes } from '../disk.ts'
import { tagBytes } from '../format/entry.ts'
import { addressBytes, packIdBytes } from '../format/keys.ts'
import type { Reference } from '../format/node.ts'

/** Blocks of one message: 1 MiB. */
export const batchBlocksMax = 16

/** Sealed entries are longer than what does not shrink. They are written over the blocks of their batch, which lie this far in. */
export const batchHeadBytes = batchBlocksMax * tagBytes
export const batchBufferBytes = batchHeadBytes + batchBlocksMax * blockBytes

export interface PackWorkerData {
  readonly vmKey: Uint8Array
  readonly compressionLevel: number
}

export interface PackRequest {
  /** Blocks one after the other, each whole, from `batchHeadBytes` on. Comes back with the sealed entries from 0 on. */
  readonly buffer: ArrayBuffer
  readonly blocks: number
  /** The parent's address of each block, zeros where it has none. */
  readonly parents: Uint8Array
  /** The pack that the entries are sealed for, and their numbers: a block each, whether it is stored or not. */
  readonly pack: Uint8Array
  readonly firstNumber: number
}

export interface PackReply {
  readonly buffer: ArrayBuffer
  /** A row a block; see `readRow`. */
  readonly rows: Uint8Array
}

/** zero: no reference; same: the parent's; known: stored earlier in this run; sealed: in the reply's buffer. */
export const outcomes = ['zero', 'same', 'known', 'sealed'] as const
/** outcome u8, flags u8, length u32, entry u32, pack id, address. */
const headBytes = 10
export const rowBytes = headBytes + packIdBytes + addressBytes

export type Row =
  | { readonly outcome: 'zero' }
  | { readonly outcome: 'same' }
  | { readonly outcome: 'known'; readonly reference: Reference }
  | {
      readonly outcome: 'sealed'
      readonly reference: Reference
      readonly flags: number
      readonly length: number
    }

export function writeRow(rows: Buffer, index: number, row: Row): void {
  const at = index * rowBytes
  rows[at] = outcomes.indexOf(row.outcome)
  if (row.outcome === 'zero' || row.outcome === 'same') return
  const { entry, pack, address } = row.reference
  rows.writeUInt32BE(entry, at + 6)
  rows.set(pack, at + headBytes)
  rows.set(address, at + headBytes + packIdBytes)
  if (row.outcome === 'known') return
  rows[at + 1] = row.flags
  rows.writeUInt32BE(row.length, at + 2)
}

export function readRow(rows: Uint8Array, index: number): Row {
  const row = Buffer.from(rows.buffer, rows.byteOffset + index * rowBytes, rowBytes)
  const outcome = outcomes[row.readUInt8(0)] ?? 'zero'
  if (outcome === 'zero' || outcome === 'same') return { outcome }
  const addressAt = headBytes + packIdBytes
  const reference = {
    entry: row.readUInt32BE(6),
    pack: row.subarray(headBytes, addressAt),
    address: row.subarray(addressAt)
  }
  if (outcome === 'known') return { outcome, reference }
  return { outcome, reference, flags: row.readUInt8(1), length: row.readUInt32BE(2) }
}
