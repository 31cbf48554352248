// Our schema builders against typebox itself: the same JSON Schema out of the same calls.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { Type as Typebox } from 'typebox'
import { Type } from '../../src/lib/schema.ts'

type Builder = typeof Type

const calls: Record<string, (builder: Builder) => unknown> = {
  string: (t) => t.String({ pattern: '^a$', maxLength: 3 }),
  'string without bounds': (t) => t.String(),
  integer: (t) => t.Integer({ minimum: 1, maximum: 9, multipleOf: 2, default: 4 }),
  number: (t) => t.Number({ minimum: 0 }),
  boolean: (t) => t.Boolean(),
  null: (t) => t.Null(),
  unknown: (t) => t.Unknown(),
  'literal string': (t) => t.Literal('hello'),
  'literal number': (t) => t.Literal(1),
  'literal boolean': (t) => t.Literal(true),
  enum: (t) => t.Enum(['a', 'b']),
  array: (t) => t.Array(t.String(), { minItems: 1, maxItems: 2 }),
  union: (t) => t.Union([t.String(), t.Null()]),
  record: (t) => t.Record(t.String({ maxLength: 64 }), t.Unknown()),
  'record with a pattern': (t) => t.Record(t.String({ pattern: '^[a-z]+$' }), t.Integer()),
  'empty object': (t) => t.Object({}, { additionalProperties: false }),
  'object of optional keys': (t) => t.Object({ a: t.Optional(t.String()) }),
  'object within an object': (t) =>
    t.Object(
      { a: t.String(), b: t.Optional(t.Object({ c: t.Integer() }, { additionalProperties: false })) },
      { additionalProperties: false }
    ),
  'the same schema required and optional': (t) => {
    const shared = t.String({ maxLength: 1 })
    return t.Object({ a: shared, b: t.Optional(shared), c: shared })
  }
}

describe('schema builders', () => {
  for (const [name, call] of Object.entries(calls)) {
    it(`writes ${name} as typebox does`, () => {
      assert.deepEqual(
        JSON.parse(JSON.stringify(call(Type))),
        JSON.parse(JSON.stringify(call(Typebox as Builder)))
      )
    })
  }

  it('offers no builder that is not compared here', () => {
    const used = new Set(
      Object.values(calls).flatMap((call) =>
        [...call.toString().matchAll(/t\.([A-Z]\w+)/g)].map((match) => match[1])
      )
    )
    assert.deepEqual(
      Object.keys(Type).filter((name) => !used.has(name)),
      []
    )
  })
})
