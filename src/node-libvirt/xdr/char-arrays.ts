/** C's arrays of char as text: libvirt's protocol spends four bytes on each char. */
import { Buffer } from 'node:buffer'
import { array, fixed } from './composites.ts'
import { XdrReader } from './reader.ts'
import { char } from './scalars.ts'
import { describe, type Type } from './type.ts'
import type { XdrWriter } from './writer.ts'
import { XdrError } from './xdr-error.ts'

/** A C array `char[length]` holding text, four bytes a char; decoding stops at its NUL. */
export function charArray(length: number): Type<string> {
  const chars = fixed(char, length)
  return {
    decode: (reader) => textOfChars(chars.decode(reader), reader.offset),
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
    decode: (reader) => textOfChars(elements.decode(reader), reader.offset),
    encode: (writer, value) => elements.encode(writer, [...charsOfText(writer, value), 0])
  }
}

function textOfChars(values: readonly number[], offset: number): string {
  const end = values.indexOf(0)
  const text = Buffer.from(end === -1 ? values : values.slice(0, end))
  const reader = new XdrReader(Buffer.concat([text, Buffer.alloc(-text.length & 3)]))
  try {
    return reader.text(text.length)
  } catch (error) {
    throw error instanceof XdrError ? new XdrError(error.reason, { offset }) : error
  }
}

function charsOfText(writer: XdrWriter, value: string): number[] {
  if (typeof value !== 'string') writer.fail(`expected text, got ${describe(value)}`)
  if (value.includes('\0')) writer.fail('text contains NUL')
  return [...new Int8Array(Buffer.from(value))]
}
