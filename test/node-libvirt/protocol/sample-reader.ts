// Makes up a value of any XDR type: a reader that returns random values instead of reading bytes.

import { XdrReader } from '../../../src/node-libvirt/xdr/reader.ts'
import { RecurringText } from '../../../src/node-libvirt/xdr/recurring-text.ts'

const ELEMENTS_MAX = 3
const letters = 'abcdefghijklmnopqrstuvwxyz-_ <&>éßλ語🙂'

export class SampleReader extends XdrReader {
  #state: number

  constructor(seed: number) {
    super(Buffer.alloc(0))
    this.#state = seed >>> 0
  }

  // 1 to 7 are what the discriminant of a typed parameter may be, and fit every narrower integer.
  override int(): number {
    return 1 + this.#below(7)
  }

  override uint(): number {
    return this.#below(256)
  }

  override hyper(): bigint {
    return BigInt.asIntN(64, this.#wide())
  }

  override uhyper(): bigint {
    return this.#wide()
  }

  override hyperOrNumber(): number | bigint {
    return exactNumber(this.hyper())
  }

  override uhyperOrNumber(): number | bigint {
    return exactNumber(this.uhyper())
  }

  override float(): number {
    return Math.fround(this.double())
  }

  override double(): number {
    return this.#below(1 << 30) / 1024 + 0.5 / 1024
  }

  override flag(): boolean {
    return this.#below(2) === 1
  }

  override count(countMax: number): number {
    return this.#below(Math.min(countMax, ELEMENTS_MAX) + 1)
  }

  override opaque(length: number): Buffer {
    return Buffer.from(Array.from({ length }, () => this.#below(256)))
  }

  override text(length: number): string {
    const alphabet = [...letters]
    return Array.from({ length }, () => alphabet[this.#below(alphabet.length)]).join('')
  }

  override get recurring(): RecurringText {
    return new Unremembered()
  }

  #wide(): bigint {
    const word = () => BigInt(this.#next())
    return this.flag() ? (word() << 32n) | word() : word()
  }

  #below(bound: number): number {
    return this.#next() % bound
  }

  // Marsaglia's xorshift would get stuck at 0; this step of a Weyl sequence with a mix (splitmix32) does not.
  #next(): number {
    this.#state = (this.#state + 0x9e37_79b9) >>> 0
    let mixed = this.#state
    mixed = Math.imul(mixed ^ (mixed >>> 16), 0x85eb_ca6b)
    mixed = Math.imul(mixed ^ (mixed >>> 13), 0xc2b2_ae35)
    return (mixed ^ (mixed >>> 16)) >>> 0
  }
}

function exactNumber(value: bigint): number | bigint {
  const number = Number(value)
  return Number.isSafeInteger(number) ? number : value
}

/** Makes every text anew: there are no bytes to recognise one by. */
class Unremembered extends RecurringText {
  override read(reader: XdrReader, decode: (reader: XdrReader) => string): string {
    return decode(reader)
  }
}
