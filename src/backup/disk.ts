// Disks as the engine sees them: something to read blocks from, and something to write them to. NBD, files and memory implement it.

/** Unit of change, of addressing and of storage, in bytes. Equal to qcow2's default cluster and bitmap granularity. */
export const blockBytes = 65_536

export interface Wait {
  readonly signal: AbortSignal
}

/** A run of bytes of a disk, of one kind. */
export interface Extent {
  readonly offset: number
  readonly length: number
  /** Reads as zeros: it need not be read. */
  readonly zero: boolean
  /** May have been written since the checkpoint that the source was opened with; true throughout where there is none. */
  readonly dirty: boolean
}

/** A point-in-time view of a disk that does not change while it is read. */
export interface DiskSource {
  /** Size of the disk as the guest sees it. */
  readonly sizeBytes: number
  /** The whole disk, in order and without gaps. Boundaries lie anywhere; neighbours may be alike. */
  extents(wait: Wait): AsyncIterable<Extent>
  /**
   * Fills `target` with the bytes at `offset`. May be called again before it has resolved, up to `readsInFlightMax` times.
   * Throws E_UNAVAILABLE when the source is lost, E_PROTOCOL when it answers nonsense.
   */
  read(offset: number, target: Uint8Array, wait: Wait): Promise<void>
  readonly readsInFlightMax: number
  close(): Promise<void>
}

/** A disk that is made. What is never written reads as zeros. */
export interface DiskTarget {
  readonly sizeBytes: number
  /** May be called again before it has resolved, up to `writesInFlightMax` times, for ranges that do not overlap. */
  write(offset: number, data: Uint8Array, wait: Wait): Promise<void>
  readonly writesInFlightMax: number
  /** Where the target is a file of this process: threads may write blocks into it by themselves instead of by `write`. */
  readonly file?: TargetFile
  /** Everything is on disk. Without it nothing of the target may be used. */
  finish(wait: Wait): Promise<void>
  /** Closes without finishing, and removes what it made where that is its to remove. No effect after `finish`. */
  abort(): Promise<void>
}

/** A file that takes a disk, for threads that write into it. No range may be written twice, by `write` or directly. */
export interface TargetFile {
  /** Open until `finish` or `abort`, which come after the last write. */
  readonly descriptor: number
  /** For messages. */
  readonly path: string
  /** Where in the file the block at this offset of the disk belongs; its place is taken by asking. */
  placeOf(offset: number): number
  /** Told after each direct write. Throws what went wrong with flushing earlier ones. */
  written(bytes: number): void
}
