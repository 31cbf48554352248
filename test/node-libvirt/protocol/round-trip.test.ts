// Every declaration, with made-up values: what is encoded decodes to the same, and to the last byte.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { XdrReader } from '../../../src/node-libvirt/xdr/reader.ts'
import { type AnyType, decodeAll, encodeAll, type Type } from '../../../src/node-libvirt/xdr/schema.ts'
import { events, procedures } from './declarations.ts'
import { SampleReader } from './sample-reader.ts'

const ROUNDS = 20
const ENCODED_BYTES_MAX = 1 << 20
const seed = Number(process.env.SEED ?? Date.now() % 1_000_000)

const types = [
  ...procedures.flatMap(({ name, declaration }) => [
    { name: `${name} arguments`, type: declaration.args },
    { name: `${name} result`, type: declaration.result }
  ]),
  ...events.map(({ name, declaration }) => ({ name: `${name} payload`, type: declaration.payload }))
]

/** Text in arrays of char is written with the NUL that made-up values and zeros lack: see wire.test.ts. */
const charArrays = ['nodeGetInfo result', 'nodeGetSecurityModel result', 'domainGetSecurityLabel result']
const regular = types.filter(({ name }) => !charArrays.includes(name))

describe(`round trips, SEED=${seed}`, () => {
  it('gives back every value of every declaration', () => {
    for (const { name, type } of regular) {
      for (let round = 0; round < ROUNDS; round++) {
        const value = type.decode(new SampleReader(seed + round))
        assert.deepEqual(decodeAll(type, encode(type, value)), value, `${name}, round ${round}`)
      }
    }
  })

  it('refuses every encoding that is cut short or goes on', () => {
    for (const { name, type } of regular) {
      const bytes = encode(type, type.decode(new SampleReader(seed)))
      assert.throws(
        () => decodeAll(type, Buffer.concat([bytes, Buffer.alloc(4)])),
        { name: 'XdrError' },
        name
      )
      if (bytes.length === 0) continue
      assert.throws(() => decodeAll(type, bytes.subarray(0, -1)), { name: 'XdrError' }, name)
    }
  })

  it('reads nothing but zeros as empty, and writes it back as the same zeros', () => {
    const zeros = Buffer.alloc(4096)
    for (const { name, type } of regular) {
      const reader = new XdrReader(zeros)
      const bytes = encode(type, type.decode(reader))
      assert.deepEqual(bytes, zeros.subarray(0, reader.offset), name)
    }
  })
})

function encode(type: AnyType, value: unknown): Buffer {
  return encodeAll(type as Type<unknown>, withParameterTypes(value), ENCODED_BYTES_MAX)
}

/** Decoding drops the types of typed parameters, encoding needs them. */
function withParameterTypes(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(withParameterTypes)
  if (typeof value !== 'object' || value === null || value instanceof Uint8Array) return value
  const keys = Object.keys(value)
  if (keys.length === 2 && 'field' in value && 'value' in value) {
    return { ...value, type: parameterType(value.value) }
  }
  return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, withParameterTypes(inner)]))
}

function parameterType(value: unknown): string {
  if (typeof value === 'boolean' || typeof value === 'string') return typeof value
  if (typeof value === 'number' && !Number.isInteger(value)) return 'double'
  return BigInt(value as number | bigint) < 2n ** 63n ? 'llong' : 'ullong'
}
