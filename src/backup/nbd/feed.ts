// Where the next bytes of a socket go: a parser asks for buffers to be filled exactly, and the kernel writes straight into them.

/**
 * A parser yields each buffer that it wants filled and goes on when that is full. It never sees bytes that it has not asked for,
 * so payload needs no copy: it yields the caller's own memory.
 */
export type Parser<Result = void> = Generator<Uint8Array, Result, void>

const scratchBytes = 65_536

export class Feed {
  readonly #parser: Parser<unknown>
  readonly #scratch = Buffer.allocUnsafeSlow(scratchBytes)
  #current: Uint8Array = this.#scratch.subarray(0, 0)
  #filled = 0
  #diverted = false
  #ended = false

  /** Starts the parser, which may throw what it thinks of an empty start. */
  constructor(parser: Parser<unknown>) {
    this.#parser = parser
    this.#resume()
  }

  /** True when the parser wants nothing more. */
  get ended(): boolean {
    return this.#ended
  }

  /** Where the next bytes are to be written; never empty unless ended. */
  space(): Uint8Array {
    if (!this.#diverted) return this.#current.subarray(this.#filled)
    return this.#scratch.subarray(0, Math.min(scratchBytes, this.#current.length - this.#filled))
  }

  /** So many bytes have been written to the start of `space()`. Throws what the parser throws. */
  advance(bytes: number): void {
    this.#filled += bytes
    if (this.#filled === this.#current.length) this.#resume()
  }

  /**
   * True when the bytes that come next would go to `target`. After `divert` what is left of them is thrown away: `space()` names
   * other memory from then on.
   */
  fills(target: Uint8Array): boolean {
    const { buffer, byteOffset, length } = this.#current
    return (
      !this.#ended &&
      !this.#diverted &&
      buffer === target.buffer &&
      byteOffset >= target.byteOffset &&
      byteOffset + length <= target.byteOffset + target.length
    )
  }

  divert(): void {
    this.#diverted = true
  }

  #resume(): void {
    this.#diverted = false
    do {
      const { done, value } = this.#parser.next()
      this.#filled = 0
      this.#ended = done === true
      this.#current = done ? this.#scratch.subarray(0, 0) : value
    } while (!this.#ended && this.#current.length === 0)
  }
}
