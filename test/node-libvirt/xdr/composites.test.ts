/** Arrays, pointers, structs and unions on the wire: RFC 4506 sections 4.12 to 4.19. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import {
  array,
  decodeAll,
  encodeAll,
  fixed,
  type Infer,
  int,
  nothing,
  optional,
  string,
  struct,
  uint,
  union,
  XdrError
} from '../../../src/node-libvirt/xdr/schema.ts'
import { hex } from '../hex.ts'

const BYTES_MAX = 1024
const point = struct({ x: int, label: optional(string(8)) })
const shape = union('kind', { 1: struct({ side: uint }), 2: struct({ points: array(point, 4) }) })

const shapeOnWire = `
  00000002  # kind
  00000002  # two points
  00000001  # x
  00000000  # no label
  ffffffff  # x
  00000001  # a label
  00000002 6869 0000`
const shapeValue: Infer<typeof shape> = {
  kind: 2,
  points: [
    { x: 1, label: null },
    { x: -1, label: 'hi' }
  ]
}

/** Fails where decoding succeeds or fails elsewhere. */
function refusal(decode: () => unknown): { path: string; offset: number } {
  try {
    decode()
  } catch (error) {
    if (error instanceof XdrError) return { path: error.path, offset: error.offset }
    throw error
  }
  return assert.fail('was accepted')
}

describe('composites', () => {
  it('encodes and decodes structs in arrays in unions', () => {
    assert.deepEqual(decodeAll(shape, hex(shapeOnWire)), shapeValue)
    assert.deepEqual(encodeAll(shape, shapeValue, BYTES_MAX), hex(shapeOnWire))
  })

  it('encodes and decodes arrays of fixed size without a count', () => {
    assert.deepEqual(decodeAll(fixed(int, 2), hex('00000001 00000002')), [1, 2])
    assert.deepEqual(encodeAll(fixed(int, 2), [1, 2], BYTES_MAX), hex('00000001 00000002'))
  })

  it('encodes and decodes nothing as no bytes', () => {
    assert.deepEqual(decodeAll(nothing, hex('')), {})
    assert.equal(encodeAll(nothing, {}, BYTES_MAX).length, 0)
  })

  it('falls back to the default arm of a union', () => {
    const open = union('kind', { 1: struct({ side: uint }) }, nothing)
    assert.deepEqual(decodeAll(open, hex('00000009')), { kind: 9 })
    assert.deepEqual(encodeAll(open, { kind: 9 }, BYTES_MAX), hex('00000009'))
  })

  it('names the field and the byte where a payload is cut', () => {
    const cut = hex(shapeOnWire).subarray(0, 22)
    assert.deepEqual(
      refusal(() => decodeAll(shape, cut)),
      { path: 'points[1].label', offset: 20 }
    )
  })

  it('names the element that cannot be encoded', () => {
    const value = {
      kind: 2,
      points: [
        { x: 1, label: null },
        { x: 1, label: 7 }
      ]
    }
    const { path } = refusal(() => encodeAll(shape, value as never, BYTES_MAX))
    assert.equal(path, 'points[1].label')
  })

  it('refuses an optional that is neither there nor absent', () => {
    assert.deepEqual(
      refusal(() => decodeAll(optional(int), hex('00000002 00000001'))),
      { path: '', offset: 0 }
    )
  })

  it('refuses more elements than the bound, in either direction', () => {
    assert.throws(() => decodeAll(array(int, 1), hex('00000002 00000001 00000001')), XdrError)
    assert.throws(() => encodeAll(array(int, 1), [1, 1], BYTES_MAX), XdrError)
    assert.throws(() => encodeAll(fixed(int, 1), [1, 1], BYTES_MAX), XdrError)
  })

  it('refuses a count that the payload cannot hold, without allocating for it', () => {
    const huge = array(int, 0xffff_ffff)
    assert.deepEqual(
      refusal(() => decodeAll(huge, hex('ffffffff 00000001'))),
      { path: '[1]', offset: 8 }
    )
  })

  it('refuses an unknown arm of a union', () => {
    assert.throws(() => decodeAll(shape, hex('00000003')), XdrError)
    assert.throws(() => encodeAll(shape, { kind: 3 } as never, BYTES_MAX), XdrError)
  })

  it('refuses what is no struct and what is no array', () => {
    for (const value of [null, undefined, 5]) {
      assert.throws(() => encodeAll(point, value as never, BYTES_MAX), XdrError)
      assert.throws(() => encodeAll(array(int, 4), value as never, BYTES_MAX), XdrError)
    }
  })

  it('refuses a value that exceeds the frame', () => {
    assert.throws(() => encodeAll(array(int, 100), new Array(100).fill(1), 40), XdrError)
  })

  it('grows its buffer as far as the value needs', () => {
    const values = Array.from({ length: 5000 }, (_, index) => index)
    assert.deepEqual(decodeAll(array(int, 5000), encodeAll(array(int, 5000), values, 100_000)), values)
  })
})
