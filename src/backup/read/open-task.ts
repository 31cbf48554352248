// What reader and worker threads hand each other: entries of one pack in, plain blocks or their faults out.

import type { FaultKind } from './fault.ts'

export interface OpenWorkerData {
  readonly vmKey: Uint8Array
}

/** Numbers of one row: entry number, offset in `bytes`, length, flags. */
export const rowNumbers = 4
/** Numbers of one place: row, position in the file, bytes. */
export const placeNumbers = 3

/** A file that the thread itself writes blocks into. */
export interface FileOutput {
  readonly descriptor: number
  /** For messages. */
  readonly path: string
  /** By ascending row; a row may have several places. */
  readonly places: Float64Array
}

export interface OpenRequest {
  readonly pack: Uint8Array
  /** Name of the pack, for errors. */
  readonly object: string
  readonly bytes: Uint8Array
  readonly rows: Uint32Array
  /** 32 bytes a row: what each block's keyed hash must be. */
  readonly addresses: Uint8Array
  /** Where blocks that are sound go: nowhere, back, or into a file. */
  readonly output: 'none' | 'reply' | FileOutput
}

export interface OpenFault {
  readonly index: number
  readonly kind: FaultKind & ('damaged-entry' | 'wrong-address')
  readonly message: string
}

export interface OpenReply {
  /** 64 KiB a row, where the output is `reply`. A row with a fault is zeros. */
  readonly plain?: Uint8Array
  readonly faults: readonly OpenFault[]
}

/** Gives the memory behind the bytes back at once: left to the collector, megabytes of each run would pile up to hundreds. */
export function release({ buffer }: Uint8Array): void {
  if (buffer instanceof ArrayBuffer && !buffer.detached) buffer.transfer(0)
}
