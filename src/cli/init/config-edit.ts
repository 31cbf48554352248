// Changes values of a YAML configuration where they stand, so that its comments and everything else stay as they are.

import { type Document, isScalar, parseDocument } from 'yaml'

export interface ConfigChange {
  /** Keys from the top. */
  readonly at: readonly string[]
  readonly value: string | number | readonly string[]
}

/** The text with the values. A value that is there already changes nothing; a key that is missing is added. */
export function withValues(text: string, changes: readonly ConfigChange[]): string {
  const wanted = changes.filter(({ at, value }) => !isSame(parseDocument(text), at, value))
  const inPlace = wanted.flatMap((change) => editOf(parseDocument(text), change))
  const edited = inPlace
    .toSorted((one, other) => other.from - one.from)
    .reduce((whole, { from, to, by }) => whole.slice(0, from) + by + whole.slice(to), text)
  const document = parseDocument(edited)
  const missing = wanted.filter(({ at, value }) => !isSame(document, at, value))
  if (missing.length === 0) return edited
  for (const { at, value } of missing) document.setIn([...at], value)
  return document.toString({ lineWidth: 0 })
}

/** Those that change something, with what was there before. */
export function changesOf(
  text: string,
  changes: readonly ConfigChange[]
): { readonly key: string; readonly before: string; readonly after: string }[] {
  const document = parseDocument(text)
  return changes
    .filter(({ at, value }) => !isSame(document, at, value))
    .map(({ at, value }) => ({
      key: at.join('.'),
      before: plainText(plain(document, at)),
      after: plainText(value)
    }))
}

function isSame(document: Document.Parsed, at: readonly string[], value: ConfigChange['value']): boolean {
  return JSON.stringify(plain(document, at)) === JSON.stringify(value)
}

function plain(document: Document.Parsed, at: readonly string[]): unknown {
  const node: unknown = document.getIn([...at], true)
  return isScalar(node) ? node.value : (node as { toJSON?: () => unknown } | undefined)?.toJSON?.()
}

/** Only for a scalar that stands in the text as such: no alias, no block. */
function editOf(document: Document.Parsed, { at, value }: ConfigChange) {
  const node: unknown = document.getIn([...at], true)
  if (!isScalar(node) || node.range == null || typeof value === 'object') return []
  if (node.anchor !== undefined || node.type === 'BLOCK_LITERAL' || node.type === 'BLOCK_FOLDED') return []
  const [from, to] = node.range
  return [{ from, to, by: scalarText(value) }]
}

/** Plain where YAML would read the same. */
function scalarText(value: string | number): string {
  if (typeof value === 'number') return String(value)
  return /^[/a-z][A-Za-z0-9/._-]*$|^[0-9]+(\.[0-9]+){3}(\/[0-9]+)?$/.test(value)
    ? value
    : JSON.stringify(value)
}

function plainText(value: unknown): string {
  return typeof value === 'string' ? value : value === undefined ? 'the default' : JSON.stringify(value)
}
