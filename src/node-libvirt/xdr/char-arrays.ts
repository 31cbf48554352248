/** C's arrays of char as text: libvirt's protocol spends four bytes on each char. */
import { Buffer } from 'node:buffer'
import { array, fixed } from './composites.ts'
import { char, checkText } from './scalars.ts'
import type { Type } from './type.ts'
import type { XdrWriter } from './writer.ts'

/** A C array `char[length]` holding text, four bytes a char; decoding stops at its NUL. */
export function charArray(length: number): Type<string> {
  const chars = fixed(char, length)
  return {
    decode: (reader) => textOfChars(chars.decode(reader)),
    encode: (writer, value) => {
      const text = charsOfText(writer, value)
      if (text.length >= length) writer.fail(`has ${text.length} bytes, at most ${length - 1} allowed`)
      chars.encode(writer, [...text, ...new Array<number>(length - text.length).fill(0)])
    }
  }
}

/** A C array `char<countMax>` holding text, four bytes a char; decoding stops at its NUL. */
export function chars(countMax: number): Type<string> {
  const elements = array(char, countMax)
  return {
    decode: (reader) => textOfChars(elements.decode(reader)),
    encode: (writer, value) => elements.encode(writer, [...charsOfText(writer, value), 0])
  }
}

function textOfChars(values: readonly number[]): string {
  const end = values.indexOf(0)
  return Buffer.from(end === -1 ? values : values.slice(0, end)).toString('utf8')
}

function charsOfText(writer: XdrWriter, value: string): number[] {
  checkText(writer, value)
  return [...new Int8Array(Buffer.from(value))]
}
