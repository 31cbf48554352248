/** XdrReader: a cursor over one payload that never reads beyond it (RFC 4506). */
import { Buffer, isAscii } from 'node:buffer'
import { RecurringText } from './recurring-text.ts'
import { XdrError } from './xdr-error.ts'

const SHORT_TEXT_BYTES_MAX = 32
const TWO_TO_32 = 4_294_967_296

export class XdrReader {
  readonly bytes: Buffer
  readonly view: DataView
  readonly end: number
  #recurring: RecurringText | null = null
  offset = 0

  constructor(payload: Uint8Array) {
    this.bytes = Buffer.isBuffer(payload)
      ? payload
      : Buffer.from(payload.buffer, payload.byteOffset, payload.byteLength)
    this.view = new DataView(payload.buffer, payload.byteOffset, payload.byteLength)
    this.end = payload.byteLength
  }

  /** Texts that recur in this payload: the names of typed parameters. */
  get recurring(): RecurringText {
    this.#recurring ??= new RecurringText()
    return this.#recurring
  }

  int(): number {
    return this.view.getInt32(this.take(4))
  }

  uint(): number {
    return this.view.getUint32(this.take(4))
  }

  hyper(): bigint {
    return this.view.getBigInt64(this.take(8))
  }

  uhyper(): bigint {
    return this.view.getBigUint64(this.take(8))
  }

  /** A signed 64-bit integer as a number where that is exact, else as a bigint. */
  hyperOrNumber(): number | bigint {
    const at = this.take(8)
    const value = this.view.getInt32(at) * TWO_TO_32 + this.view.getUint32(at + 4)
    return Number.isSafeInteger(value) ? value : this.view.getBigInt64(at)
  }

  /** An unsigned 64-bit integer as a number where that is exact, else as a bigint. */
  uhyperOrNumber(): number | bigint {
    const at = this.take(8)
    const value = this.view.getUint32(at) * TWO_TO_32 + this.view.getUint32(at + 4)
    return Number.isSafeInteger(value) ? value : this.view.getBigUint64(at)
  }

  float(): number {
    return this.view.getFloat32(this.take(4))
  }

  double(): number {
    return this.view.getFloat64(this.take(8))
  }

  /** A 0 or a 1; anything else means that reader and sender are out of step. */
  flag(what: string): boolean {
    const value = this.uint()
    if (value > 1) throw this.#failure(`${what} is ${value}, expected 0 or 1`, 4)
    return value === 1
  }

  /** The length or count that stands before a variable value. */
  count(countMax: number, what: string): number {
    const count = this.uint()
    if (count > countMax) throw this.#failure(`${what} is ${count}, at most ${countMax} allowed`, 4)
    return count
  }

  /** A copy, so that a short value does not keep a frame of megabytes alive. */
  opaque(length: number): Buffer {
    const start = this.take(length)
    this.#padding(length)
    return Buffer.from(this.bytes.subarray(start, start + length))
  }

  /** Bytes that are not UTF-8 become U+FFFD: libvirt passes on names of files, which may have any bytes. */
  text(length: number): string {
    const start = this.take(length)
    this.#padding(length)
    const encoding = this.#isAscii(start, start + length) ? 'latin1' : 'utf8'
    return this.bytes.toString(encoding, start, start + length)
  }

  /** Moves on by `length` bytes and returns where they begin. */
  take(length: number): number {
    const start = this.offset
    if (length > this.end - start) {
      throw new XdrError(`needs ${length} bytes, ${this.end - start} are left`, { offset: start })
    }
    this.offset = start + length
    return start
  }

  /** Call at the end: a payload with bytes left over is not the declared type. */
  finish(): void {
    if (this.offset !== this.end) {
      throw new XdrError(`${this.end - this.offset} bytes are left over`, { offset: this.offset })
    }
  }

  #padding(length: number): void {
    const padding = -length & 3
    const start = this.take(padding)
    for (let index = start; index < start + padding; index++) {
      if (this.bytes[index] !== 0) throw new XdrError('padding is not zero', { offset: index })
    }
  }

  #isAscii(start: number, end: number): boolean {
    if (end - start > SHORT_TEXT_BYTES_MAX) return isAscii(this.bytes.subarray(start, end))
    for (let index = start; index < end; index++) {
      if ((this.bytes[index] ?? 0) > 0x7f) return false
    }
    return true
  }

  #failure(reason: string, bytesBack: number): XdrError {
    return new XdrError(reason, { offset: this.offset - bytesBack })
  }
}
