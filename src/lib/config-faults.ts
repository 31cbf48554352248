// From a validator's errors to what a person reads: where in the file, what was expected, and the likely slip.

import type { ErrorObject } from 'ajv'
import { type Document, isAlias, isMap, isNode, isScalar, isSeq, type Node, type Pair } from 'yaml'
import { suggestion } from './suggestion.ts'

/** One fault; `offset` is the character in the file. */
export interface Fault {
  readonly offset: number
  readonly text: string
}

type Schema = Record<string, unknown>

/** Faults in words. Values are never repeated: they may be secrets. */
export function faultsOf(document: Document.Parsed, errors: readonly ErrorObject[]): Fault[] {
  return withoutBranches(errors).map((error) => ({
    offset: offsetOf(document, error),
    text: describe(error)
  }))
}

/** Of a union that fits no branch, the union's own error says enough. */
function withoutBranches(errors: readonly ErrorObject[]): readonly ErrorObject[] {
  const unions = errors.filter(({ keyword }) => keyword === 'anyOf' || keyword === 'oneOf')
  return errors.filter(
    (error) => !unions.some((union) => error.schemaPath.startsWith(`${union.schemaPath}/`))
  )
}

function describe(error: ErrorObject): string {
  const writer = descriptions[error.keyword]
  return writer === undefined ? `expected a value that ${error.message ?? 'fits'}` : writer(error)
}

const descriptions: Readonly<Record<string, (error: ErrorObject) => string>> = {
  additionalProperties: (error) => {
    const key = String(error.params.additionalProperty).slice(0, 64)
    const known = Object.keys((error.parentSchema?.properties ?? {}) as object)
    return `expected a known key, not "${key}"${didYouMean(key, known)}`
  },
  propertyNames: (error) => `expected another key than "${String(error.params.propertyName).slice(0, 64)}"`,
  required: (error) => `expected the key "${error.params.missingProperty}", which is missing`,
  enum: (error) => {
    const allowed = (error.params.allowedValues as unknown[]).map(String)
    const given = typeof error.data === 'string' ? didYouMean(error.data, allowed) : ''
    return `expected one of ${allowed.join(', ')}${given}`
  },
  const: (error) => `expected ${JSON.stringify(error.params.allowedValue)}`,
  type: (error) =>
    `expected ${wanted(error, `${article(String(error.params.type))}`)}, not ${kindOf(error.data)}`,
  pattern: (error) => `expected ${wanted(error, `text that matches ${error.params.pattern}`)}`,
  minimum: (error) => `expected ${wanted(error, 'a number')} of at least ${error.params.limit}`,
  maximum: (error) => `expected ${wanted(error, 'a number')} of at most ${error.params.limit}`,
  minLength: (error) => `expected text of at least ${error.params.limit} characters`,
  maxLength: (error) => `expected text of at most ${error.params.limit} characters`,
  minItems: (error) => `expected at least ${error.params.limit} entries`,
  maxItems: (error) => `expected at most ${error.params.limit} entries`,
  anyOf: (error) => `expected ${wanted(error, 'another kind of value')}, not ${kindOf(error.data)}`
}

/** A schema's own description is the best account of what it wants. */
function wanted(error: ErrorObject, otherwise: string): string {
  const schema = error.parentSchema as Schema | undefined
  const { description, title } = schema ?? {}
  if (typeof description === 'string') return description
  return typeof title === 'string' ? title : otherwise
}

function didYouMean(given: string, known: readonly string[]): string {
  const near = suggestion(given, known)
  return near === undefined ? '' : ` (did you mean "${near}"?)`
}

const articles: Readonly<Record<string, string>> = {
  object: 'a map of keys',
  array: 'a list',
  string: 'text',
  integer: 'a whole number',
  number: 'a number',
  boolean: 'true or false',
  null: 'nothing'
}

function article(type: string): string {
  return articles[type] ?? type
}

function kindOf(value: unknown): string {
  if (value === null) return 'nothing'
  if (Array.isArray(value)) return 'a list'
  if (typeof value === 'number') return Number.isInteger(value) ? 'a number' : 'a fraction'
  return article(typeof value)
}

function offsetOf(document: Document.Parsed, error: ErrorObject): number {
  const path = error.instancePath.split('/').slice(1).map(unescapePointer)
  const extra = error.params.additionalProperty ?? error.params.propertyName
  if (typeof extra === 'string') return keyOffset(document, [...path, extra])
  return offsetAt(document, path)
}

function unescapePointer(segment: string): string {
  return segment.replaceAll('~1', '/').replaceAll('~0', '~')
}

function keyOffset(document: Document.Parsed, path: readonly string[]): number {
  const parent = resolve(document, nodeAt(document, path.slice(0, -1)))
  const key = isMap(parent) ? pairOf(parent.items, path.at(-1))?.key : undefined
  return startOf(key) ?? startOf(parent) ?? 0
}

/** Where the value at a path of keys begins; the nearest thing above it that is in the file when it is not. */
export function offsetAt(document: Document.Parsed, path: readonly string[]): number {
  return startOf(nodeAt(document, path)) ?? (path.length === 0 ? 0 : keyOffset(document, path))
}

function nodeAt(document: Document.Parsed, path: readonly string[]): Node | undefined {
  let node: Node | undefined = document.contents ?? undefined
  for (const segment of path) {
    const parent = resolve(document, node)
    const child: unknown = isMap(parent)
      ? pairOf(parent.items, segment)?.value
      : isSeq(parent)
        ? parent.items[Number(segment)]
        : undefined
    node = isNode(child) ? child : undefined
  }
  return node
}

function pairOf(items: readonly Pair[], key: string | undefined): Pair | undefined {
  return items.find((pair) => isScalar(pair.key) && String(pair.key.value) === key)
}

function resolve(document: Document.Parsed, node: Node | undefined): Node | undefined {
  return isAlias(node) ? node.resolve(document) : node
}

function startOf(node: unknown): number | undefined {
  return isNode(node) ? node.range?.[0] : undefined
}
