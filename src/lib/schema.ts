// The schema builders that we use, with typebox's types and without loading typebox: see docs/adr/0005.

import type { Type as Typebox } from 'typebox'

export type { Static, TProperties, TSchema } from 'typebox'

type JsonSchema = Record<string, unknown>

/** Properties that `Type.Optional` marked: an object does not require them. */
const optional = new WeakSet<object>()

function object(properties: Record<string, JsonSchema>, options?: JsonSchema): JsonSchema {
  const required = Object.keys(properties).filter((key) => !optional.has(properties[key] as JsonSchema))
  return { type: 'object', ...(required.length > 0 && { required }), properties, ...options }
}

/** `patternProperties`, as typebox writes a record: a key that does not match the pattern is let through. */
function record(key: JsonSchema, value: JsonSchema, options?: JsonSchema): JsonSchema {
  const pattern = typeof key.pattern === 'string' ? key.pattern : '^.*$'
  return { type: 'object', patternProperties: { [pattern]: value }, ...options }
}

function markOptional(schema: JsonSchema): JsonSchema {
  const marked = { ...schema }
  optional.add(marked)
  return marked
}

const builders = {
  Object: object,
  Record: record,
  Optional: markOptional,
  Array: (items: JsonSchema, options?: JsonSchema) => ({ type: 'array', items, ...options }),
  Union: (anyOf: JsonSchema[], options?: JsonSchema) => ({ anyOf, ...options }),
  Enum: (values: unknown[], options?: JsonSchema) => ({ enum: values, ...options }),
  Literal: (value: unknown, options?: JsonSchema) => ({ type: typeof value, const: value, ...options }),
  String: (options?: JsonSchema) => ({ type: 'string', ...options }),
  Integer: (options?: JsonSchema) => ({ type: 'integer', ...options }),
  Number: (options?: JsonSchema) => ({ type: 'number', ...options }),
  Boolean: (options?: JsonSchema) => ({ type: 'boolean', ...options }),
  Null: (options?: JsonSchema) => ({ type: 'null', ...options }),
  Unknown: (options?: JsonSchema) => ({ ...options })
}

/** Builds the same JSON Schema as typebox's `Type`, and infers the same static types. */
export const Type = builders as unknown as Pick<typeof Typebox, keyof typeof builders>
