// What the writer and its worker threads say to each other. References travel as fixed rows: no object a block is made on the way.

import { addressBytes, packIdBytes } from '../format/keys.ts'
import type { Reference } from '../format/node.ts'

/** Blocks of one message: 1 MiB. */
export const batchBlocksMax = 16

export interface PackWorkerData {
  readonly vmKey: Uint8Array
  readonly compressionLevel: number
  /** Length of the buffer that packs are built in. */
  readonly packBytes: number
}

export interface BatchRequest {
  /** Blocks one after the other, each whole; comes back with the reply. */
  readonly buffer: ArrayBuffer
  readonly blocks: number
  /** The parent's address of each block, zeros where it has none. */
  readonly parents: Uint8Array
  /** A buffer of a pack that is stored, for the case that the next one begins with this batch. Comes back if it does not. */
  readonly spare?: ArrayBuffer
}

/** Asks for the pack that is being built, as it is. */
export interface FinishRequest {
  readonly buffer?: never
}

export type PackRequest = BatchRequest | FinishRequest

export interface FinishedPack {
  readonly id: Uint8Array
  readonly generation: number
  readonly entries: number
  readonly buffer: ArrayBuffer
  readonly length: number
}

export interface PackReply {
  readonly buffer?: ArrayBuffer
  readonly spare?: ArrayBuffer
  /** A row a block; see `readRow`. */
  readonly rows: Uint8Array
  readonly packs: readonly FinishedPack[]
}

/** zero: no reference; same: the parent's; stored: the row's own. */
export const outcomes = { zero: 0, same: 1, stored: 2 } as const
/** outcome u8, entry u32, pack id, address. */
export const rowBytes = 5 + packIdBytes + addressBytes

export type Row =
  | { readonly outcome: 'zero' | 'same' }
  | { readonly outcome: 'stored'; readonly reference: Reference }

export function writeRow(rows: Buffer, index: number, row: Row): void {
  const at = index * rowBytes
  rows[at] = outcomes[row.outcome]
  if (row.outcome !== 'stored') return
  const { entry, pack, address } = row.reference
  rows.writeUInt32BE(entry, at + 1)
  rows.set(pack, at + 5)
  rows.set(address, at + 5 + packIdBytes)
}

export function readRow(rows: Uint8Array, index: number): Row {
  const row = Buffer.from(rows.buffer, rows.byteOffset + index * rowBytes, rowBytes)
  if (row[0] === outcomes.zero) return { outcome: 'zero' }
  if (row[0] === outcomes.same) return { outcome: 'same' }
  const pack = row.subarray(5, 5 + packIdBytes)
  return {
    outcome: 'stored',
    reference: { entry: row.readUInt32BE(1), pack, address: row.subarray(5 + packIdBytes) }
  }
}
