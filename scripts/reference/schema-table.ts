// A schema as rows of a table: one a field, those of nested objects under their path.

import type { TSchema } from 'typebox'
import { table } from './markdown.ts'

export interface SchemaFacts {
  readonly type?: string
  readonly properties?: Readonly<Record<string, TSchema>>
  readonly patternProperties?: Readonly<Record<string, TSchema>>
  readonly required?: readonly string[]
  readonly items?: TSchema
  readonly enum?: readonly unknown[]
  readonly anyOf?: readonly TSchema[]
  readonly oneOf?: readonly TSchema[]
  readonly const?: unknown
  readonly default?: unknown
  readonly description?: string
  readonly pattern?: string
  readonly minimum?: number
  readonly maximum?: number
  readonly multipleOf?: number
  readonly maxLength?: number
  readonly maxItems?: number
}

export interface Field {
  /** Keys from the outermost on; `*` is a name of one's own, `[]` an item of a list. */
  readonly path: readonly string[]
  readonly isRequired: boolean
  readonly facts: SchemaFacts
}

/** Every field of an object, outer ones before what is in them. */
export function fieldsOf(schema: TSchema, above: readonly string[] = []): Field[] {
  const { properties = {}, patternProperties = {}, required = [] } = schema as SchemaFacts
  const named = Object.entries(properties)
  const free = Object.values(patternProperties).map((value) => ['*', value] as const)
  return [...named, ...free].flatMap(([name, property]) => {
    const facts = property as SchemaFacts
    const path = [...above, name]
    const own = { path, isRequired: required.includes(name), facts }
    return [own, ...insideOf(facts).flatMap(({ schema: inner, step }) => fieldsOf(inner, [...path, ...step]))]
  })
}

function insideOf(facts: SchemaFacts): { schema: TSchema; step: string[] }[] {
  if (facts.items) return [{ schema: facts.items, step: ['[]'] }]
  const choices = (facts.anyOf ?? facts.oneOf ?? []).filter(
    (choice) => (choice as SchemaFacts).properties !== undefined
  )
  if (choices.length > 0) return choices.slice(0, 1).map((schema) => ({ schema, step: [] }))
  return [{ schema: facts as TSchema, step: [] }]
}

export function pathText(path: readonly string[]): string {
  return path.join('.').replaceAll('.[]', '[]').replaceAll('.*', '.NAME')
}

export function fields(schema: TSchema): string {
  const rows = fieldsOf(schema).map(({ path, isRequired, facts }) => [
    `\`${pathText(path)}\`${isRequired ? '' : ' (optional)'}`,
    typeOf(facts),
    bounds(facts)
  ])
  return rows.length === 0 ? 'None.' : table(['name', 'type', 'bounds'], rows)
}

export function typeOf({ type, items, enum: words, anyOf, const: word }: SchemaFacts): string {
  if (anyOf) return anyOf.map((choice) => typeOf(choice as SchemaFacts)).join(' or ')
  if (word !== undefined) return `\`${String(word)}\``
  if (words) return words.map((each) => `\`${String(each)}\``).join(', ')
  if (items) return `list of ${typeOf(items as SchemaFacts)}`
  return type ?? 'any'
}

export function bounds(facts: SchemaFacts): string {
  const { pattern, minimum, maximum, multipleOf, maxLength, maxItems } = facts
  return [
    range(minimum, maximum),
    multipleOf === undefined ? '' : `a multiple of ${multipleOf}`,
    maxItems === undefined ? '' : `at most ${maxItems}`,
    maxLength === undefined ? '' : `at most ${maxLength} characters`,
    pattern === undefined ? '' : `\`${pattern.replaceAll('|', '\\|').replaceAll('`', '\\x60')}\``
  ]
    .filter((text) => text !== '')
    .join(', ')
}

function range(minimum: number | undefined, maximum: number | undefined): string {
  if (minimum === undefined) return maximum === undefined ? '' : `at most ${maximum}`
  return maximum === undefined ? `at least ${minimum}` : `${minimum} to ${maximum}`
}
