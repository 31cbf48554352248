// Configuration files: YAML in, a value that fits its schema out, or every fault with its file, line and column.

import { closeSync, fstatSync, openSync, readFileSync } from 'node:fs'
import { Ajv2020, type ErrorObject, type ValidateFunction } from 'ajv/dist/2020.js'
import { type Document, LineCounter, parseAllDocuments, parseDocument } from 'yaml'
import { HostletError } from '../errors.ts'
import { type Fault, faultsOf, offsetAt } from './config-faults.ts'
import type { Static, TSchema } from './schema.ts'

export const configFileBytesMax = 1024 * 1024
/** A file may repeat anchors so many times: more is a bomb, not a configuration. */
export const configAliasesMax = 64
/** The first faults are enough to go on with. */
export const configFaultsMax = 20

/** What a schema cannot say, as faults of a value that fits it: the path of keys, and `expected ...`. */
export type ConfigRules<Value> = (
  value: Value
) => readonly { readonly at: readonly string[]; readonly text: string }[]

/**
 * Reads a YAML file and checks it against a schema; defaults of the schema are filled in. Unknown keys are refused where
 * the schema says `additionalProperties: false`. Throws HostletError: E_NOT_FOUND when there is no such file, otherwise
 * E_BAD_REQUEST whose message has one line a fault: `file:line:column: what was expected (did you mean "x"?)`.
 */
export function loadConfigFile<Schema extends TSchema>(
  path: string,
  schema: Schema,
  rules?: ConfigRules<Static<Schema>>
): Static<Schema> {
  return parseConfigText(readBounded(path), path, schema, rules)
}

/** The same for a text that was read already; `path` only names it in messages. */
export function parseConfigText<Schema extends TSchema>(
  text: string,
  path: string,
  schema: Schema,
  rules: ConfigRules<Static<Schema>> = () => []
): Static<Schema> {
  const lines = new LineCounter()
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false, uniqueKeys: true })
  return checked(document, { path, lines, schema, rules })
}

/** Documents that one text may hold. */
export const configDocumentsMax = 1_000

export interface ConfigDocument<Value> {
  readonly value: Value
  /** Where it begins. */
  readonly line: number
}

/** The documents of a text that holds several, `---` between them; empty ones are left out. Throws as `parseConfigText`. */
export function parseConfigDocuments<Schema extends TSchema>(
  text: string,
  path: string,
  schema: Schema,
  rules: ConfigRules<Static<Schema>> = () => []
): ConfigDocument<Static<Schema>>[] {
  const lines = new LineCounter()
  const documents = parseAllDocuments(text, { lineCounter: lines, prettyErrors: false, uniqueKeys: true })
  if (documents.length > configDocumentsMax)
    throw new HostletError('E_BAD_REQUEST', `${path}: holds more than ${configDocumentsMax} documents`)
  const full = documents.filter(({ contents, errors }) => contents !== null || errors.length > 0)
  const faults: string[] = []
  const read = full.flatMap((document) => {
    try {
      const value = checked(document as Document.Parsed, { path, lines, schema, rules })
      return [{ value, line: lines.linePos(document.contents?.range?.[0] ?? 0).line }]
    } catch (error) {
      if (!(error instanceof HostletError) || error.code !== 'E_BAD_REQUEST') throw error
      faults.push(error.message)
      return []
    }
  })
  if (faults.length === 0) return read
  throw new HostletError('E_BAD_REQUEST', faults.join('\n'), { details: { file: path } })
}

/** Reads a file that is no longer than a configuration may be. Throws as `loadConfigFile`. */
export function readConfigText(path: string): string {
  return readBounded(path)
}

interface Checking<Schema extends TSchema> {
  readonly path: string
  readonly lines: LineCounter
  readonly schema: Schema
  readonly rules: ConfigRules<Static<Schema>>
}

function checked<Schema extends TSchema>(
  document: Document.Parsed,
  { path, lines, schema, rules }: Checking<Schema>
): Static<Schema> {
  const faults = syntaxFaults(document)
  if (faults.length > 0) throw refusal(path, lines, faults)
  const value = plainValue(document, path)
  const accepts = compile(schema)
  if (!accepts(value)) throw refusal(path, lines, faultsOf(document, (accepts.errors ?? []) as ErrorObject[]))
  const config = value as Static<Schema>
  const broken = rules(config).map((rule) => ({ offset: offsetAt(document, rule.at), text: rule.text }))
  if (broken.length > 0) throw refusal(path, lines, broken)
  return config
}

/** Compiling takes as long as reading a hundred files, and the policy of a host is read again and again. */
const compiled = new WeakMap<TSchema, ValidateFunction>()

function compile(schema: TSchema): ValidateFunction {
  const known = compiled.get(schema)
  if (known !== undefined) return known
  const ajv = new Ajv2020({
    allErrors: true,
    verbose: true,
    useDefaults: true,
    strict: true,
    strictRequired: false
  })
  const accepts = ajv.compile(schema)
  compiled.set(schema, accepts)
  return accepts
}

function readBounded(path: string): string {
  const file = open(path)
  try {
    const { size } = fstatSync(file)
    if (size > configFileBytesMax)
      throw new HostletError(
        'E_BAD_REQUEST',
        `${path}: is ${size} bytes long, a configuration has at most ${configFileBytesMax}`
      )
    return readFileSync(file, 'utf8')
  } catch (cause) {
    if (cause instanceof HostletError) throw cause
    throw unreadable(path, cause)
  } finally {
    closeSync(file)
  }
}

function open(path: string): number {
  try {
    return openSync(path, 'r')
  } catch (cause) {
    throw unreadable(path, cause)
  }
}

function unreadable(path: string, cause: unknown): HostletError {
  const code = (cause as NodeJS.ErrnoException).code
  if (code === 'ENOENT')
    return new HostletError(
      'E_NOT_FOUND',
      `${path}: no such file. Start from the commented sample in config/.`,
      {
        cause
      }
    )
  return new HostletError('E_BAD_REQUEST', `${path}: cannot be read (${code ?? 'unknown error'})`, { cause })
}

function syntaxFaults(document: Document.Parsed): Fault[] {
  return [...document.errors, ...document.warnings].map((error) => ({
    offset: error.pos[0],
    text: `expected valid YAML: ${error.message.split('\n')[0] ?? error.code}`
  }))
}

function plainValue(document: Document.Parsed, path: string): unknown {
  try {
    return document.toJS({ maxAliasCount: configAliasesMax }) ?? {}
  } catch (cause) {
    throw new HostletError(
      'E_BAD_REQUEST',
      `${path}: expected at most ${configAliasesMax} uses of YAML aliases, each of an anchor above it`,
      { cause }
    )
  }
}

function refusal(path: string, lines: LineCounter, faults: readonly Fault[]): HostletError {
  const shown = faults.toSorted((a, b) => a.offset - b.offset).slice(0, configFaultsMax)
  const texts = shown.map(({ offset, text }) => {
    const { line, col } = lines.linePos(offset)
    return `${path}:${Math.max(line, 1)}:${Math.max(col, 1)}: ${text}`
  })
  if (faults.length > shown.length) texts.push(`${path}: and ${faults.length - shown.length} more`)
  return new HostletError('E_BAD_REQUEST', texts.join('\n'), {
    details: { file: path, faults: faults.length }
  })
}
