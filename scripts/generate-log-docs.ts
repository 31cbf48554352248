// Writes the tables of docs/logs.md: every line of information and above that agent and scheduler log, found in the sources.
// What a line means is written by hand, in the table itself, and kept. A test checks that the tables are current.

import { globSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { eventId } from '../src/lib/log-events.ts'

const root = join(import.meta.dirname, '..')
export const logDocsPath = join(root, 'docs/logs.md')

const levels = ['info', 'warn', 'error'] as const
type Level = (typeof levels)[number]

export interface LogLine {
  readonly event: string
  readonly message: string
  readonly levels: readonly Level[]
  readonly fields: readonly string[]
  readonly files: readonly string[]
}

interface Call {
  readonly message: string
  readonly level: Level
  readonly fields: readonly string[]
  readonly file: string
}

/** Whose lines stand in which table, by the folders that log them. */
const tables = {
  agent: ['src/agent/**/*.ts', 'src/backup/**/*.ts'],
  scheduler: ['src/scheduler/**/*.ts'],
  both: ['src/lib/**/*.ts', 'src/cli/daemon.ts']
} as const
export type TableName = keyof typeof tables
export const tableNames = Object.keys(tables) as TableName[]

/** One an event. Throws when two messages would have one id, and when a message is not constant. */
export function logLines(table: TableName): LogLine[] {
  const files = tables[table].flatMap((pattern) => globSync(pattern, { cwd: root })).sort()
  const found = new Map<string, LogLine>()
  for (const call of files.flatMap(callsOf)) {
    const event = eventId(call.message)
    const before = found.get(event)
    if (before !== undefined && before.message !== call.message)
      throw new Error(
        `"${before.message}" and "${call.message}" (${call.file}) both have the id ${event}: reword one`
      )
    found.set(event, {
      event,
      message: call.message,
      levels: levels.filter((level) => level === call.level || before?.levels.includes(level)),
      fields: [...new Set([...(before?.fields ?? []), ...call.fields])],
      files: [...new Set([...(before?.files ?? []), call.file])]
    })
  }
  return [...found.values()].sort((a, b) => (a.event < b.event ? -1 : 1))
}

/** `log.warn(`, `this.#options.log?.warn(`, `this.#logOf(entry).info(`, and `this.#log[level](`, which may be a warning or an error. */
const callPattern = /(?:\blog|#log\w*(?:\([^()]*\))?)(?:\?)?(?:\.(info|warn|error)|\[level\])\(/g

function callsOf(file: string): Call[] {
  const source = readFileSync(join(root, file), 'utf8')
  return [...source.matchAll(callPattern)].flatMap((found) => {
    const parts = argumentsAt(source, found.index + found[0].length)
    const [facts, message] = parts
    if (facts === undefined || message === undefined || parts.length !== 2) return []
    const messages = textsOf(message)
    if (messages.length === 0) {
      const line = source.slice(0, found.index).split('\n').length
      throw new Error(`${file}:${line} logs a message that is not constant: ${message}`)
    }
    const of = found[1] === undefined ? (['warn', 'error'] as const) : [found[1] as Level]
    const fields = fieldsOf(facts, source.slice(0, found.index))
    return messages.flatMap((text) => of.map((level) => ({ message: text, level, fields, file })))
  })
}

const closers: Readonly<Record<string, string>> = { '(': ')', '{': '}', '[': ']' }

/** The arguments of a call, from behind its bracket on. */
function argumentsAt(source: string, from: number): string[] {
  const parts: string[] = []
  let start = from
  for (let at = from; at < source.length; at++) {
    const character = source[at] ?? ''
    if ('\'`"'.includes(character)) at = endOfText(source, at)
    else if (closers[character] !== undefined) at = endOfBracket(source, at)
    else if (character === ',' || character === ')') {
      const part = source.slice(start, at).trim()
      if (part !== '') parts.push(part)
      start = at + 1
      if (character === ')') break
    }
  }
  return parts
}

function endOfText(source: string, from: number): number {
  const quote = source[from]
  let at = from + 1
  while (at < source.length && source[at] !== quote) at += source[at] === '\\' ? 2 : 1
  return at
}

function endOfBracket(source: string, from: number): number {
  const closer = closers[source[from] ?? '']
  for (let at = from + 1; at < source.length; at++) {
    const character = source[at] ?? ''
    if (character === closer) return at
    if ('\'`"'.includes(character)) at = endOfText(source, at)
    else if (closers[character] !== undefined) at = endOfBracket(source, at)
  }
  return source.length
}

/** A constant text, or the two of a choice. */
function textsOf(message: string): string[] {
  const choice =
    message.includes('?') && !/^['"]/.test(message) ? message.slice(message.indexOf('?')) : message
  const texts = [...choice.matchAll(/'((?:[^'\\]|\\.)*)'|"([^"]*)"/g)].map(
    (found) => found[1] ?? found[2] ?? ''
  )
  const rest = choice.replaceAll(/'((?:[^'\\]|\\.)*)'|"([^"]*)"/g, '').trim()
  return /^(\?\s*:)?$/.test(rest) ? texts : []
}

/** The keys of a literal, of what it spreads, or of the constant that it is. */
function fieldsOf(facts: string, before: string): string[] {
  if (!facts.startsWith('{')) return /^\w+$/.test(facts) ? fieldsOfConstant(facts, before) : []
  return argumentsAt(`${facts.slice(1, -1)})`, 0).flatMap((part) => {
    if (part.startsWith('...')) {
      const literal = part.indexOf('{')
      if (literal >= 0) return fieldsOf(part.slice(literal, part.lastIndexOf('}') + 1), before)
      return fieldsOf(part.slice(3), before)
    }
    const name = /^\w+/.exec(part)?.[0]
    return name === undefined ? [] : [name]
  })
}

function fieldsOfConstant(name: string, before: string): string[] {
  const at = before.lastIndexOf(`const ${name} = {`)
  if (at < 0) return []
  const open = before.indexOf('{', at)
  return fieldsOf(before.slice(open, endOfBracket(before, open) + 1), before.slice(0, at))
}

const begin = (table: TableName) =>
  `<!-- ${table}: written by scripts/generate-log-docs.ts; the last column by hand -->`
const end = (table: TableName) => `<!-- end of ${table} -->`

/** The document with its tables as the sources have them, and the meanings that it had. */
export function withTables(text: string): string {
  return tableNames.reduce((document, table) => {
    const [from, to] = [document.indexOf(begin(table)), document.indexOf(end(table))]
    if (from < 0 || to < 0) throw new Error(`docs/logs.md has no place for the table ${table}`)
    const lines = tableOf(logLines(table), meaningsIn(document, table))
    return `${document.slice(0, from)}${begin(table)}\n\n${lines.join('\n')}\n\n${document.slice(to)}`
  }, text)
}

function tableOf(lines: readonly LogLine[], meanings: ReadonlyMap<string, string>): string[] {
  return [
    '| event | level | fields | what it means, and what to do |',
    '|---|---|---|---|',
    ...lines.map(({ event, levels: of, fields }) => {
      const names = fields.map((name) => `\`${name}\``).join(' ')
      return `| \`${event}\` | ${of.join(', ')} | ${names || '–'} | ${meanings.get(event) ?? ''} |`
    })
  ]
}

/** By event; empty ones are left out. */
export function meaningsIn(document: string, table: TableName): ReadonlyMap<string, string> {
  const text = document.slice(document.indexOf(begin(table)), document.indexOf(end(table)))
  const rows = [...text.matchAll(/^\| `([a-z0-9-]+)` \| [^|]* \| [^|]* \| (.*) \|$/gm)]
  return new Map(
    rows
      .map(([, event = '', meaning = '']): [string, string] => [event, meaning.trim()])
      .filter(([, meaning]) => meaning !== '')
  )
}

if (import.meta.main) {
  const text = readFileSync(logDocsPath, 'utf8')
  writeFileSync(logDocsPath, withTables(text))
}
