/** Numbers, text and bytes on the wire: RFC 4506 sections 4.1 to 4.11. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import {
  bool,
  bytes,
  char,
  decodeAll,
  double,
  encodeAll,
  float,
  hyper,
  int,
  opaque,
  string,
  struct,
  type Type,
  uchar,
  uhyper,
  uint,
  ushort,
  XdrError
} from '../../../src/node-libvirt/xdr/schema.ts'
import { hex } from '../hex.ts'

const BYTES_MAX = 1024

const vectors: readonly [string, Type<unknown>, unknown, string][] = [
  ['int, smallest', int, -2147483648, '80000000'],
  ['int, largest', int, 2147483647, '7fffffff'],
  ['uint, largest', uint, 4294967295, 'ffffffff'],
  ['hyper, smallest', hyper as Type<unknown>, -9223372036854775808n, '8000000000000000'],
  ['uhyper, largest', uhyper as Type<unknown>, 18446744073709551615n, 'ffffffffffffffff'],
  ['float', float, 1.5, '3fc00000'],
  ['double', double, -0.1, 'bfb999999999999a'],
  ['true', bool, true, '00000001'],
  ['false', bool, false, '00000000'],
  ['char in four bytes', char, -1, 'ffffffff'],
  ['unsigned char in four bytes', uchar, 255, '000000ff'],
  ['unsigned short in four bytes', ushort, 65535, '0000ffff'],
  ['empty text', string(8), '', '00000000'],
  ['text with padding', string(8), 'hello', '00000005 68656c6c6f 000000'],
  ['text of several bytes a character', string(8), 'é€', '00000005 c3a9e282ac 000000'],
  ['text without padding', string(8), 'abcd', '00000004 61626364'],
  ['fixed bytes', opaque(3) as Type<unknown>, hex('010203'), '010203 00'],
  ['variable bytes', bytes(8) as Type<unknown>, hex('0102030405'), '00000005 0102030405 000000'],
  ['no bytes', bytes(8) as Type<unknown>, hex(''), '00000000']
]

const undecodable: readonly [string, Type<unknown>, string, number][] = [
  ['a truncated int', int, '000001', 0],
  ['a truncated hyper', hyper as Type<unknown>, '00000000 000000', 0],
  ['bytes left over', int, '00000001 00', 4],
  ['a boolean of 2', bool, '00000002', 0],
  ['a char beyond its range', char, '00000080', 0],
  ['an unsigned char beyond its range', uchar, '00000100', 0],
  ['an unsigned short beyond its range', ushort, '00010000', 0],
  ['text longer than allowed', string(4), '00000005 68656c6c6f 000000', 0],
  ['text longer than the payload', string(64), '00000010 68656c6c', 4],
  ['text of four gigabytes', string(64), 'ffffffff 68656c6c', 0],
  ['text that lacks its padding', string(8), '00000005 68656c6c6f', 9],
  ['padding that is not zero', string(8), '00000005 68656c6c6f 000100', 10],
  ['fixed bytes that are cut', opaque(4) as Type<unknown>, '010203', 0],
  ['fixed bytes with wrong padding', opaque(3) as Type<unknown>, '010203ff', 3],
  ['more bytes than allowed', bytes(2) as Type<unknown>, '00000003 010203 00', 0]
]

const lossy: readonly [string, Type<string>, string, string][] = [
  ['short text that is not UTF-8', string(8), '00000002 c328 0000', '\ufffd('],
  ['long text that is not UTF-8', string(64), `00000028 ${'61'.repeat(39)} ff`, `${'a'.repeat(39)}\ufffd`],
  ['text with a truncated character', string(8), '00000002 e282 0000', '\ufffd'],
  ['a surrogate in UTF-8', string(8), '00000003 eda080 00', '\ufffd\ufffd\ufffd']
]

const unencodable: readonly [string, Type<unknown>, unknown][] = [
  ['a fraction as int', int, 1.5],
  ['an int that is too large', int, 2147483648],
  ['a negative uint', uint, -1],
  ['NaN as int', int, Number.NaN],
  ['text as int', int, '1'],
  ['a missing int', int, undefined],
  ['a hyper beyond 64 bits', hyper as Type<unknown>, 2n ** 63n],
  ['a negative uhyper', uhyper as Type<unknown>, -1n],
  ['a number that is not exact as hyper', hyper as Type<unknown>, 2 ** 53],
  ['text as double', double, '1'],
  ['1 as boolean', bool, 1],
  ['a number as text', string(8), 5],
  ['text that is too long in bytes', string(4), 'é€'],
  ['text with NUL, where C would stop', string(8), 'a\0b'],
  ['text with half a surrogate pair', string(8), '\ud800'],
  ['too few fixed bytes', opaque(4) as Type<unknown>, hex('01')],
  ['too many bytes', bytes(2) as Type<unknown>, hex('010203')],
  ['text as bytes', bytes(8) as Type<unknown>, 'abc'],
  ['a char beyond its range', char, 128]
]

describe('scalars', () => {
  for (const [name, type, value, wire] of vectors) {
    it(`encodes and decodes ${name}`, () => {
      assert.equal(encodeAll(type, value, BYTES_MAX).toString('hex'), hex(wire).toString('hex'))
      assert.deepEqual(decodeAll(type, hex(wire)), value)
    })
  }

  for (const [name, type, wire, offset] of undecodable) {
    it(`refuses to decode ${name}`, () => {
      assert.throws(
        () => decodeAll(type, hex(wire)),
        (error) => error instanceof XdrError && error.offset === offset
      )
    })
  }

  for (const [name, type, wire, value] of lossy) {
    it(`decodes ${name} with a replacement, and what follows it`, () => {
      assert.equal(decodeAll(type, hex(wire)), value)
      const pair = struct({ text: type, number: int })
      assert.deepEqual(decodeAll(pair, hex(`${wire} 00000007`)), { text: value, number: 7 })
    })
  }

  for (const [name, type, value] of unencodable) {
    it(`refuses to encode ${name}`, () => {
      assert.throws(() => encodeAll(type, value, BYTES_MAX), XdrError)
    })
  }

  it('takes a safe integer where 64 bits are wanted', () => {
    assert.equal(encodeAll(uhyper, 5, BYTES_MAX).toString('hex'), '0000000000000005')
  })

  it('keeps a byte order mark', () => {
    assert.equal(decodeAll(string(8), hex('00000004 efbbbf61')), '\ufeffa')
  })

  it('copies bytes out of the payload', () => {
    const payload = hex('01020300')
    const value = decodeAll(opaque(3), payload)
    payload.fill(0)
    assert.deepEqual(value, hex('010203'))
  })

  it('decodes a payload that begins inside a larger buffer', () => {
    assert.equal(decodeAll(int, hex('ffff 00000007 ffff').subarray(2, 6)), 7)
    assert.equal(decodeAll(int, new Uint8Array([9, 0, 0, 0, 7]).subarray(1)), 7)
  })

  it('says nothing of the value in an error: it may be secret', () => {
    assert.throws(
      () => encodeAll(string(4), 'passphrase', BYTES_MAX),
      (error) => error instanceof Error && !error.message.includes('passphrase')
    )
    assert.throws(
      () => encodeAll(int, 'passphrase' as never, BYTES_MAX),
      (error) => error instanceof Error && !error.message.includes('passphrase')
    )
  })

  it('demands bounds that fit XDR', () => {
    for (const bound of [-1, 1.5, 2 ** 32, Number.NaN]) assert.throws(() => string(bound), RangeError)
  })
})
