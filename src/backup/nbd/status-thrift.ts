// When asking which bytes are zeros is worth its time: as long as it costs less than reading what it saves.

/** What reading would do: asking must save more than that. A slow estimate of a disk, so that asking is given up late. */
const readBytesPerMs = 500_000
/** Time that may be lost before anything is saved. */
const graceMs = 500
const slowMs = 250
const quickMs = 50
const rangeBytesLeast = 16 * 1024 * 1024
/** A request cannot say 4 GiB. All ranges are powers of two, so that they begin and end at blocks of any size. */
const rangeBytesMost = 2 * 1024 * 1024 * 1024
const rangeBytesFirst = 64 * 1024 * 1024
const skipBytesFirst = 1024 * 1024 * 1024
const skipBytesMost = 64 * skipBytesFirst

/** Pure: told how long answers took and what they held, it says how much to ask next, or what to leave unasked. */
export class StatusThrift {
  #rangeBytes = rangeBytesFirst
  #skipBytes = skipBytesFirst
  #debtMs = 0
  #skipping = 0

  /** Bytes to ask about at once. */
  get rangeBytes(): number {
    return this.#rangeBytes
  }

  /** Bytes that are better read than asked about. Then one more question shows whether that has changed. */
  get unaskedBytes(): number {
    return this.#skipping
  }

  answered({ tookMs, zeroBytes }: { readonly tookMs: number; readonly zeroBytes: number }): void {
    if (tookMs > slowMs) this.#rangeBytes = Math.max(rangeBytesLeast, this.#rangeBytes / 2)
    else if (tookMs < quickMs) this.#rangeBytes = Math.min(rangeBytesMost, this.#rangeBytes * 2)
    this.#debtMs = Math.max(0, this.#debtMs + tookMs - zeroBytes / readBytesPerMs)
    if (this.#debtMs <= graceMs) {
      this.#skipBytes = skipBytesFirst
      return
    }
    this.#skipping = this.#skipBytes
    this.#skipBytes = Math.min(skipBytesMost, this.#skipBytes * 2)
  }

  /** So many bytes went by without a question. */
  passed(bytes: number): void {
    this.#skipping = Math.max(0, this.#skipping - bytes)
  }
}
