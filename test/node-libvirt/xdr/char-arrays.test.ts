/** C's char arrays, which libvirt's protocol sends with four bytes a char. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { charArray, chars, decodeAll, encodeAll, XdrError } from '../../../src/node-libvirt/xdr/schema.ts'
import { hex } from '../hex.ts'

const BYTES_MAX = 1024
const hiOnWire = '00000068 00000069 00000000 00000000'

describe('char arrays', () => {
  it('reads text up to its NUL and fills the rest with NULs', () => {
    assert.equal(decodeAll(charArray(4), hex(hiOnWire)), 'hi')
    assert.deepEqual(encodeAll(charArray(4), 'hi', BYTES_MAX), hex(hiOnWire))
  })

  it('reads text that fills the array without a NUL', () => {
    assert.equal(decodeAll(charArray(2), hex('00000068 00000069')), 'hi')
  })

  it('carries characters beyond ASCII as signed chars', () => {
    const wire = hex('ffffffc3 ffffffa9 00000000')
    assert.equal(decodeAll(charArray(3), wire), 'é')
    assert.deepEqual(encodeAll(charArray(3), 'é', BYTES_MAX), wire)
  })

  it('reads and writes arrays of varying length with their count', () => {
    assert.equal(decodeAll(chars(8), hex(`00000003 ${hiOnWire.slice(0, 26)}`)), 'hi')
    assert.deepEqual(encodeAll(chars(8), 'hi', BYTES_MAX), hex(`00000003 ${hiOnWire.slice(0, 26)}`))
    assert.equal(decodeAll(chars(8), hex('00000000')), '')
  })

  it('refuses text that leaves no room for its NUL, and what is no text', () => {
    assert.throws(() => encodeAll(charArray(2), 'hi', BYTES_MAX), XdrError)
    assert.throws(() => encodeAll(chars(2), 'hi', BYTES_MAX), XdrError)
    assert.throws(() => encodeAll(chars(8), 'h\0i', BYTES_MAX), XdrError)
    assert.throws(() => encodeAll(chars(8), 5 as never, BYTES_MAX), XdrError)
    assert.throws(() => encodeAll(chars(8), '\ud800', BYTES_MAX), XdrError)
  })

  it('puts a replacement for bytes that are not UTF-8', () => {
    assert.equal(decodeAll(charArray(2), hex('ffffffff 00000061')), '\ufffda')
    assert.equal(decodeAll(chars(2), hex('00000002 ffffffff 00000000')), '\ufffd')
  })

  it('refuses chars that are none', () => {
    assert.throws(() => decodeAll(charArray(1), hex('00000141')), XdrError)
    assert.throws(() => decodeAll(chars(1), hex('00000002 00000068 00000069')), XdrError)
  })
})
