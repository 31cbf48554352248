/** XDR's numbers, booleans, text and bytes (RFC 4506), each with its bound. */
import { Buffer } from 'node:buffer'
import { checkBound, describe, type Type } from './type.ts'
import type { XdrWriter } from './writer.ts'
import { XdrError } from './xdr-error.ts'

export const int: Type<number> = {
  decode: (reader) => reader.int(),
  encode: (writer, value) => writer.int(checkInteger(writer, value, -0x8000_0000, 0x7fff_ffff))
}

export const uint: Type<number> = {
  decode: (reader) => reader.uint(),
  encode: (writer, value) => writer.uint(checkInteger(writer, value, 0, 0xffff_ffff))
}

/** C's `char`, `unsigned char` and `unsigned short` take four bytes each in libvirt's protocol. */
export const char: Type<number> = narrow(int, -128, 127)
export const uchar: Type<number> = narrow(uint, 0, 0xff)
export const ushort: Type<number> = narrow(uint, 0, 0xffff)

export const hyper: Type<bigint, bigint | number> = {
  decode: (reader) => reader.hyper(),
  encode: (writer, value) => writer.hyper(checkBigInt(writer, value, -(2n ** 63n), 2n ** 63n - 1n))
}

export const uhyper: Type<bigint, bigint | number> = {
  decode: (reader) => reader.uhyper(),
  encode: (writer, value) => writer.uhyper(checkBigInt(writer, value, 0n, 2n ** 64n - 1n))
}

export const float: Type<number> = {
  decode: (reader) => reader.float(),
  encode: (writer, value) => writer.float(checkNumber(writer, value))
}

export const double: Type<number> = {
  decode: (reader) => reader.double(),
  encode: (writer, value) => writer.double(checkNumber(writer, value))
}

export const bool: Type<boolean> = {
  decode: (reader) => reader.flag('boolean'),
  encode: (writer, value) => {
    if (typeof value !== 'boolean') writer.fail(`expected a boolean, got ${describe(value)}`)
    writer.uint(value ? 1 : 0)
  }
}

/**
 * UTF-8 text of at most `bytesMax` bytes. Decoding puts U+FFFD for what is not UTF-8; encoding is strict, and refuses
 * NUL, as the peer keeps a C string.
 */
export function string(bytesMax: number): Type<string> {
  checkBound(bytesMax)
  return {
    decode: (reader) => reader.text(reader.count(bytesMax, 'length of text')),
    encode: (writer, value) => writeText(writer, value, bytesMax)
  }
}

/** Exactly `length` bytes. */
export function opaque(length: number): Type<Buffer, Uint8Array> {
  checkBound(length)
  return {
    decode: (reader) => reader.opaque(length),
    encode: (writer, value) => {
      checkBytes(writer, value)
      if (value.length !== length) writer.fail(`has ${value.length} bytes, must have ${length}`)
      writer.opaque(value)
    }
  }
}

/** At most `bytesMax` bytes. */
export function bytes(bytesMax: number): Type<Buffer, Uint8Array> {
  checkBound(bytesMax)
  return {
    decode: (reader) => reader.opaque(reader.count(bytesMax, 'length of bytes')),
    encode: (writer, value) => {
      checkBytes(writer, value)
      if (value.length > bytesMax) writer.fail(`has ${value.length} bytes, at most ${bytesMax} allowed`)
      writer.uint(value.length)
      writer.opaque(value)
    }
  }
}

function narrow(wide: Type<number>, min: number, max: number): Type<number> {
  return {
    decode: (reader) => {
      const value = wide.decode(reader)
      if (value < min || value > max) {
        throw new XdrError(`${value} is outside ${min} to ${max}`, { offset: reader.offset - 4 })
      }
      return value
    },
    encode: (writer, value) => wide.encode(writer, checkInteger(writer, value, min, max))
  }
}

/** What C takes for the same text. */
export function checkText(writer: XdrWriter, value: string): void {
  if (typeof value !== 'string') writer.fail(`expected text, got ${describe(value)}`)
  if (!value.isWellFormed()) writer.fail('text has a lone surrogate')
  if (value.includes('\0')) writer.fail('text contains NUL')
}

function writeText(writer: XdrWriter, value: string, bytesMax: number): void {
  checkText(writer, value)
  const length = Buffer.byteLength(value)
  if (length > bytesMax) writer.fail(`has ${length} bytes, at most ${bytesMax} allowed`)
  writer.uint(length)
  writer.text(value, length)
}

function checkInteger(writer: XdrWriter, value: number, min: number, max: number): number {
  if (!Number.isInteger(value) || value < min || value > max) {
    writer.fail(`expected an integer from ${min} to ${max}, got ${describe(value)}`)
  }
  return value
}

function checkBigInt(writer: XdrWriter, value: bigint | number, min: bigint, max: bigint): bigint {
  if (typeof value !== 'bigint' && !Number.isSafeInteger(value)) {
    writer.fail(`expected a 64-bit integer, got ${describe(value)}`)
  }
  const exact = BigInt(value)
  if (exact < min || exact > max) writer.fail(`expected an integer from ${min} to ${max}, got ${exact}`)
  return exact
}

function checkNumber(writer: XdrWriter, value: number): number {
  if (typeof value !== 'number') writer.fail(`expected a number, got ${describe(value)}`)
  return value
}

function checkBytes(writer: XdrWriter, value: Uint8Array): void {
  if (!(value instanceof Uint8Array)) writer.fail(`expected bytes, got ${describe(value)}`)
}
