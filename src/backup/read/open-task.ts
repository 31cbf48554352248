// What reader and worker threads hand each other: entries of one pack in, plain blocks or their faults out.

export interface OpenWorkerData {
  readonly vmKey: Uint8Array
}

/** Numbers of one row: entry number, offset in `bytes`, length, flags. */
export const rowNumbers = 4

export interface OpenRequest {
  readonly pack: Uint8Array
  /** Name of the pack, for errors. */
  readonly object: string
  readonly bytes: Uint8Array
  readonly rows: Uint32Array
  /** 32 bytes a row: what each block's keyed hash must be. */
  readonly addresses: Uint8Array
  readonly wantPlain: boolean
}

export interface OpenReply {
  /** 64 KiB a row; undefined where only checked. A row with a fault is zeros. */
  readonly plain?: Uint8Array
  readonly faults: readonly {
    readonly index: number
    readonly kind: 'damaged-entry' | 'wrong-address'
    readonly message: string
  }[]
}

/** Gives the memory behind the bytes back at once: left to the collector, megabytes of each run would pile up to hundreds. */
export function release({ buffer }: Uint8Array): void {
  if (buffer instanceof ArrayBuffer && !buffer.detached) buffer.transfer(0)
}
