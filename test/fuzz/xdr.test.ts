/** Fuzz of XDR: whatever encodes decodes to the same, and no bytes do more than throw XdrError. */
import assert from 'node:assert/strict'
import { Buffer } from 'node:buffer'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { connectGetAllDomainStats } from '../../src/node-libvirt/protocol/statistics.ts'
import {
  type AnyType,
  array,
  bool,
  bytes,
  charArray,
  chars,
  decodeAll,
  double,
  encodeAll,
  fixed,
  hyper,
  int,
  opaque,
  optional,
  string,
  struct,
  type Type,
  type TypedParameterInput,
  typedParameter,
  uhyper,
  uint,
  union,
  XdrError
} from '../../src/node-libvirt/xdr/schema.ts'
import { decodeInSlices } from '../../src/node-libvirt/xdr/slices.ts'

const RUNS = 500
const BYTES_MAX = 1_000_000
const seed = Number(process.env.FUZZ_SEED ?? Date.now() & 0x7fff_ffff)

interface Sample {
  readonly type: Type<unknown>
  readonly value: fc.Arbitrary<unknown>
}

const text = fc.string({ unit: 'binary', maxLength: 20 }).filter((value) => !value.includes('\0'))
const octets = (length: fc.IntArrayConstraints) => fc.uint8Array(length).map((value) => Buffer.from(value))

function sample(type: unknown, value: fc.Arbitrary<unknown>): Sample {
  return { type: type as Type<unknown>, value }
}

const scalars: readonly Sample[] = [
  sample(int, fc.integer({ min: -(2 ** 31), max: 2 ** 31 - 1 })),
  sample(uint, fc.integer({ min: 0, max: 2 ** 32 - 1 })),
  sample(hyper, fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n })),
  sample(uhyper, fc.bigInt({ min: 0n, max: 2n ** 64n - 1n })),
  sample(double, fc.double()),
  sample(bool, fc.boolean()),
  sample(string(80), text),
  sample(opaque(7), octets({ minLength: 7, maxLength: 7 })),
  sample(bytes(33), octets({ maxLength: 33 })),
  sample(charArray(81), text),
  sample(chars(81), text)
]

/** Types made of types, three deep. */
const samples: fc.Arbitrary<Sample> = fc.letrec<{ any: Sample }>((tie) => ({
  any: fc.oneof(
    { maxDepth: 3, depthIdentifier: 'schema' },
    fc.constantFrom(...scalars),
    // Null and a value that is null itself look the same, so optionals hold scalars only.
    fc.constantFrom(...scalars).map(({ type, value }) => sample(optional(type), fc.option(value))),
    tie('any').map(({ type, value }) => sample(array(type, 5), fc.array(value, { maxLength: 5 }))),
    tie('any').map(({ type, value }) =>
      sample(fixed(type, 2), fc.array(value, { minLength: 2, maxLength: 2 }))
    ),
    fc.tuple(tie('any'), tie('any')).map(([left, right]) => pair(left, right)),
    fc.tuple(tie('any'), tie('any')).map(([left, right]) => either(left, right))
  )
})).any

const cases = samples.chain(({ type, value }) => value.map((original) => ({ type, original })))

function pair(left: Sample, right: Sample): Sample {
  const value = fc.record({ left: left.value, right: right.value }, { noNullPrototype: true })
  return sample(struct({ left: left.type, right: right.type }), value)
}

function either(left: Sample, right: Sample): Sample {
  const type = union('kind', { 1: struct({ left: left.type }), [-2]: struct({ right: right.type }) })
  const value = fc.oneof(
    left.value.map((left) => ({ kind: 1, left })),
    right.value.map((right) => ({ kind: -2, right }))
  )
  return sample(type, value)
}

const fieldName = fc.constantFrom(
  'cpu.time',
  'cpu.user',
  'state.state',
  'block.0.rd.bytes',
  'block.0.rd.bytez',
  ''
)
const statistics = fc.array(
  fc.oneof(
    fc.record({ field: fieldName, type: fc.constant('int' as const), value: fc.integer() }),
    fc.record({ field: fieldName, type: fc.constant('ullong' as const), value: fc.maxSafeNat() }),
    fc.record({ field: fieldName, type: fc.constant('string' as const), value: text }),
    fc.record({ field: fieldName, type: fc.constant('boolean' as const), value: fc.boolean() }),
    fc.record({ field: fieldName, type: fc.constant('double' as const), value: fc.double() })
  )
) as fc.Arbitrary<TypedParameterInput[]>
/** Bytes to overwrite: where, modulo the length, and with what. */
const hits = fc.array(fc.tuple(fc.nat(), fc.nat({ max: 255 })), { minLength: 1, maxLength: 4 })

/** True for a value, false for a refusal; anything else that is thrown is a fault. */
function decodes(type: AnyType, payload: Buffer): boolean {
  try {
    decodeAll(type, payload)
    return true
  } catch (error) {
    if (error instanceof XdrError) return false
    throw error
  }
}

function damage(wire: Buffer, places: readonly (readonly [number, number])[]): Buffer {
  for (const [at, to] of wire.length === 0 ? [] : places) wire[at % wire.length] = to
  return wire
}

describe(`XDR under fuzz (FUZZ_SEED=${seed})`, () => {
  it('decodes what it encoded, in whole words, and nothing shorter or longer', () => {
    fc.assert(
      fc.property(cases, ({ type, original }) => {
        const wire = encodeAll(type, original, BYTES_MAX)
        assert.equal(wire.length % 4, 0)
        assert.deepEqual(decodeAll(type, wire), original)
        if (wire.length > 0) assert.equal(decodes(type, wire.subarray(0, -1)), false)
        assert.equal(decodes(type, Buffer.concat([wire, Buffer.alloc(4)])), false)
      }),
      { seed, numRuns: RUNS }
    )
  })

  it('throws nothing but XdrError on random bytes and on damaged ones', () => {
    fc.assert(
      fc.property(cases, octets({ maxLength: 200 }), hits, ({ type, original }, noise, places) => {
        for (const payload of [noise, damage(encodeAll(type, original, BYTES_MAX), places)]) {
          assert.equal(typeof decodes(type, payload), 'boolean')
        }
      }),
      { seed, numRuns: RUNS }
    )
  })

  it('decodes in slices what it decodes at once, and refuses the same', async () => {
    await fc.assert(
      fc.asyncProperty(cases, hits, async ({ type, original }, places) => {
        const payload = damage(encodeAll(type, original, BYTES_MAX), places)
        let atOnce: unknown
        try {
          atOnce = decodeAll(type, payload)
        } catch (error) {
          await assert.rejects(
            decodeInSlices(type, payload, () => 0),
            error as Error
          )
          return
        }
        assert.deepEqual(await decodeInSlices(type, payload, () => 0), atOnce)
      }),
      { seed, numRuns: RUNS }
    )
  })

  it('decodes typed parameters in a row as one by one', () => {
    fc.assert(
      fc.property(statistics, (parameters) => {
        const wire = encodeAll(array(typedParameter, 1000), parameters, BYTES_MAX)
        const alone = parameters.map((input) =>
          decodeAll(typedParameter, encodeAll(typedParameter, input, BYTES_MAX))
        )
        assert.deepEqual(decodeAll(array(typedParameter, 1000), wire), alone)
      }),
      { seed, numRuns: RUNS }
    )
  })

  it('survives a hostile reply to the statistics call', () => {
    const { result } = connectGetAllDomainStats
    fc.assert(
      fc.property(statistics, hits, (parameters, places) => {
        const domain = { name: 'web1', uuid: Buffer.alloc(16), id: 1 }
        const value = {
          statistics: [
            { domain, parameters },
            { domain, parameters }
          ]
        }
        const wire = damage(encodeAll(result as Type<unknown>, value, BYTES_MAX), places)
        assert.equal(typeof decodes(result, wire), 'boolean')
      }),
      { seed, numRuns: RUNS }
    )
  })
})
