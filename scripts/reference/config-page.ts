// The reference of a configuration file: keys, types and defaults out of its schema, meanings out of the commented sample.

import type { TSchema } from 'typebox'
import { cell, sections, table } from './markdown.ts'
import { bounds, type Field, fieldsOf, pathText, type SchemaFacts, typeOf } from './schema-table.ts'

export interface ConfigFile {
  readonly title: string
  /** Where it lies on a host. */
  readonly path: string
  readonly schema: TSchema
  /** The commented sample's text. */
  readonly sample: string
}

export function configPage({ title, path, schema, sample }: ConfigFile): string {
  const meanings = meaningsOf(sample, schema)
  const rows = fieldsOf(schema)
    .filter(({ path: keys, facts }) => !isSection(facts) || meanings.has(keys.join('.')))
    .map((field) => [
      `\`${pathText(field.path)}\``,
      isSection(field.facts) ? 'section' : cell(kindOf(field)),
      defaultOf(field),
      cell(meanings.get(field.path.join('.')) ?? '')
    ])
  return sections(
    `# ${title}`,
    `\`${path}\`. Unknown keys are refused; \`hostlet config check ${path}\` tells each fault with its line. Made from the schema and the commented sample by \`node scripts/generate-reference.ts\`.`,
    table(['key', 'type', 'default', 'meaning'], rows)
  )
}

function isSection({ properties, patternProperties }: SchemaFacts): boolean {
  return properties !== undefined || patternProperties !== undefined
}

function kindOf({ facts }: Field): string {
  const type = typeOf(facts)
  return facts.description ?? [type, bounds(facts)].filter((text) => text !== '').join(', ')
}

function defaultOf({ facts, isRequired, path }: Field): string {
  if (isSection(facts)) return ''
  if (facts.default === undefined) return isRequired && path.includes('*') ? 'to be given' : 'none'
  // A default such as the machine's own name would differ from one machine to the next.
  if (path.join('.') === 'names') return "this machine's name, localhost, 127.0.0.1"
  const text = typeof facts.default === 'string' ? facts.default : JSON.stringify(facts.default)
  return `\`${cell(text)}\``
}

/** Comment blocks of the sample by the key that they stand above, keys that are commented out included. */
function meaningsOf(sample: string, schema: TSchema): ReadonlyMap<string, string> {
  const known = fieldsOf(schema).map(({ path }) => path)
  const meanings = new Map<string, string>()
  const open: { indent: number; key: string }[] = []
  let comment: string[] = []
  for (const line of sample.split('\n')) {
    const key = keyIn(line)
    const path = key && pathOf(open, key, known)
    if (path === undefined || key === undefined) {
      comment = /^\s*#/.test(line) ? [...comment, line.replace(/^\s*# ?/, '')] : []
      continue
    }
    if (!meanings.has(path) && comment.length > 0) meanings.set(path, comment.join(' '))
    comment = []
  }
  return meanings
}

function keyIn(line: string): { indent: number; name: string } | undefined {
  const match = /^(\s*)(?:# )?(?:- )?(\w[\w-]*):(?:\s|$)/.exec(line)
  return match === null ? undefined : { indent: match[1]?.length ?? 0, name: match[2] ?? '' }
}

/** Under which open key it stands; undefined for words of a comment that only look like a key. */
function pathOf(
  open: { indent: number; key: string }[],
  { indent, name }: { indent: number; name: string },
  known: readonly (readonly string[])[]
): string | undefined {
  const above = open.filter((one) => one.indent < indent)
  const parents = above.map(({ key }) => key)
  for (const key of [name, '*']) {
    const path = [...parents, key]
    if (!known.some((one) => one.join('.') === path.join('.'))) continue
    open.splice(0, open.length, ...above, { indent, key })
    return path.join('.')
  }
  return undefined
}
