/** libvirt's typed parameters (remote_typed_param): each type, and many in a row. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import {
  array,
  decodeAll,
  encodeAll,
  type TypedParameterInput,
  typedParameter,
  XdrError
} from '../../../src/node-libvirt/xdr/schema.ts'
import { hex } from '../hex.ts'

const BYTES_MAX = 100_000
const name = '00000003 637075 00' // cpu

const vectors: readonly [TypedParameterInput, string][] = [
  [{ field: 'cpu', type: 'int', value: -1 }, `${name} 00000001 ffffffff`],
  [{ field: 'cpu', type: 'uint', value: 4294967295 }, `${name} 00000002 ffffffff`],
  [{ field: 'cpu', type: 'llong', value: -2 }, `${name} 00000003 fffffffffffffffe`],
  [{ field: 'cpu', type: 'ullong', value: 5_000_000_000 }, `${name} 00000004 000000012a05f200`],
  [{ field: 'cpu', type: 'double', value: 0.5 }, `${name} 00000005 3fe0000000000000`],
  [{ field: 'cpu', type: 'boolean', value: true }, `${name} 00000006 00000001`],
  [{ field: 'cpu', type: 'string', value: 'host' }, `${name} 00000007 00000004 686f7374`]
]

describe('typed parameters', () => {
  for (const [input, wire] of vectors) {
    it(`encodes and decodes ${input.type}`, () => {
      assert.deepEqual(encodeAll(typedParameter, input, BYTES_MAX), hex(wire))
      assert.deepEqual(decodeAll(typedParameter, hex(wire)), { field: 'cpu', value: input.value })
    })
  }

  it('gives a bigint only where a number would not be exact', () => {
    const decode = (wire: string) => decodeAll(typedParameter, hex(`${name} ${wire}`)).value
    assert.equal(decode('00000004 001fffffffffffff'), Number.MAX_SAFE_INTEGER)
    assert.equal(decode('00000004 0020000000000000'), 2n ** 53n)
    assert.equal(decode('00000004 ffffffffffffffff'), 2n ** 64n - 1n)
    assert.equal(decode('00000003 ffe0000000000001'), Number.MIN_SAFE_INTEGER)
    assert.equal(decode('00000003 ffe0000000000000'), -(2n ** 53n))
    assert.equal(decode('00000003 8000000000000000'), -(2n ** 63n))
  })

  it('takes any number but zero for true, as C does', () => {
    assert.equal(decodeAll(typedParameter, hex(`${name} 00000006 00000002`)).value, true)
  })

  it('decodes rows whose names repeat, change and differ only in their last byte', () => {
    const rows = ['a.1', 'a.2', 'a.1', 'a.3', 'a.1', 'a.2', 'b', 'a.1', 'a.2', '', 'a.1', 'a.11']
    const inputs = rows.map((field, value) => ({ field, type: 'int' as const, value }))
    const wire = encodeAll(array(typedParameter, 100), inputs, BYTES_MAX)
    const expected = rows.map((field, value) => ({ field, value }))
    assert.deepEqual(decodeAll(array(typedParameter, 100), wire), expected)
  })

  it('decodes thousands of different names', () => {
    const inputs = Array.from({ length: 5000 }, (_, value) => ({
      field: `f${value}`,
      type: 'int' as const,
      value
    }))
    const decoded = decodeAll(
      array(typedParameter, 5000),
      encodeAll(array(typedParameter, 5000), inputs, 200_000)
    )
    assert.deepEqual(decoded.at(-1), { field: 'f4999', value: 4999 })
  })

  it('names the row in which it stops, also behind a name that it knows', () => {
    const rows = hex(`00000003 ${name} 00000001 00000001 ${name} 00000001 00000002 ${name} 00000001 0000`)
    assert.throws(
      () => decodeAll(array(typedParameter, 3), rows),
      (error) => error instanceof XdrError && error.path === '[2]' && error.offset === rows.length - 2
    )
    assert.throws(() => decodeAll(array(typedParameter, 3), rows.subarray(0, -8)), XdrError)
  })

  it('refuses unknown types and names that are too long, in either direction', () => {
    assert.throws(() => decodeAll(typedParameter, hex(`${name} 00000008 00000000`)), XdrError)
    assert.throws(
      () => decodeAll(typedParameter, hex(`00000050 ${'61'.repeat(80)} 00000001 00000001`)),
      XdrError
    )
    const long = { field: 'a'.repeat(80), type: 'int', value: 1 } as const
    assert.throws(() => encodeAll(typedParameter, long, BYTES_MAX), XdrError)
    const untyped = { field: 'cpu', value: 1 } as never
    assert.throws(() => encodeAll(typedParameter, untyped, BYTES_MAX), XdrError)
  })

  it('names the parameter whose value is not of its type', () => {
    const wrong = { field: 'shares', type: 'uint', value: 'many' } as never
    assert.throws(
      () => encodeAll(array(typedParameter, 1), [wrong], BYTES_MAX),
      (error) => error instanceof XdrError && error.path === '[0].shares'
    )
    const flag = { field: 'shares', type: 'boolean', value: 1 } as never
    assert.throws(() => encodeAll(typedParameter, flag, BYTES_MAX), XdrError)
  })
})
