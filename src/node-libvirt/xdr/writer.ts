/** XdrWriter: a growing, bounded buffer of XDR (RFC 4506), with room in front for a frame's header. */
import { Buffer } from 'node:buffer'
import { XdrError } from './xdr-error.ts'

const INITIAL_BYTES = 256

export class XdrWriter {
  readonly #headroomBytes: number
  readonly #bytesMax: number
  #buffer: Buffer
  #length: number

  /** `bytesMax` bounds what is written, `headroomBytes` stay free in front of it. */
  constructor({ bytesMax, headroomBytes = 0 }: { bytesMax: number; headroomBytes?: number }) {
    this.#headroomBytes = headroomBytes
    this.#bytesMax = bytesMax
    this.#buffer = Buffer.allocUnsafe(headroomBytes + Math.min(INITIAL_BYTES, bytesMax))
    this.#length = headroomBytes
  }

  /** Bytes written so far, without the headroom. */
  get offset(): number {
    return this.#length - this.#headroomBytes
  }

  int(value: number): void {
    const at = this.#reserve(4)
    this.#buffer.writeInt32BE(value, at)
  }

  uint(value: number): void {
    const at = this.#reserve(4)
    this.#buffer.writeUInt32BE(value, at)
  }

  hyper(value: bigint): void {
    const at = this.#reserve(8)
    this.#buffer.writeBigInt64BE(value, at)
  }

  uhyper(value: bigint): void {
    const at = this.#reserve(8)
    this.#buffer.writeBigUInt64BE(value, at)
  }

  float(value: number): void {
    const at = this.#reserve(4)
    this.#buffer.writeFloatBE(value, at)
  }

  double(value: number): void {
    const at = this.#reserve(8)
    this.#buffer.writeDoubleBE(value, at)
  }

  opaque(value: Uint8Array): void {
    const padding = -value.length & 3
    const at = this.#reserve(value.length + padding)
    this.#buffer.set(value, at)
    this.#buffer.fill(0, at + value.length, at + value.length + padding)
  }

  text(value: string, bytes: number): void {
    const padding = -bytes & 3
    const at = this.#reserve(bytes + padding)
    this.#buffer.write(value, at, bytes, 'utf8')
    this.#buffer.fill(0, at + bytes, at + bytes + padding)
  }

  fail(reason: string): never {
    throw new XdrError(reason, { offset: this.offset })
  }

  /** All of it, the headroom included (not initialised); the writer must not be used afterwards. */
  finish(): Buffer {
    return this.#buffer.subarray(0, this.#length)
  }

  #reserve(bytes: number): number {
    const at = this.#length
    const length = at + bytes
    if (length - this.#headroomBytes > this.#bytesMax) this.fail(`value exceeds ${this.#bytesMax} bytes`)
    if (length > this.#buffer.length) this.#grow(length)
    this.#length = length
    return at
  }

  #grow(lengthNeeded: number): void {
    const grown = Buffer.allocUnsafe(Math.max(lengthNeeded, this.#buffer.length * 2))
    this.#buffer.copy(grown, 0, 0, this.#length)
    this.#buffer = grown
  }
}
