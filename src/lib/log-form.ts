// How one log entry reads: a line for the journal with its priority in front, or a line for a terminal.

import { styleText } from 'node:util'

export type LogLevel = 'debug' | 'info' | 'warn' | 'error'

export interface LogEntry {
  readonly level: LogLevel
  readonly message: string
  readonly fields: Readonly<Record<string, unknown>>
  /** Milliseconds since the epoch. */
  readonly at: number
}

/** syslog's numbers, which sd-daemon(3) takes as a prefix of the line. */
const priorities: Readonly<Record<LogLevel, number>> = { debug: 7, info: 6, warn: 4, error: 3 }
/** Longest line; journald cuts at 48 KiB. */
export const logLineCharactersMax = 16_384

/** A sentence, then the facts as logfmt; stack traces on lines of their own, each with the priority. No time, pid or host. */
export function journalForm({ level, message, fields }: LogEntry): string {
  const prefix = `<${priorities[level]}>`
  const lines = [sentence(message, fields), ...stackLines(fields)]
  return lines.map((line) => `${prefix}${line.slice(0, logLineCharactersMax)}\n`).join('')
}

const colours = { debug: 'gray', info: 'green', warn: 'yellow', error: 'red' } as const

/** The same with time and level, for eyes on a terminal; they read the sentence, not its id. */
export function prettyForm(entry: LogEntry, colour: boolean): string {
  const time = new Date(entry.at).toISOString().slice(11, 23)
  const word = entry.level.toUpperCase().padEnd(5)
  const paint = (style: Parameters<typeof styleText>[0], text: string) =>
    colour ? styleText(style, text, { validateStream: false }) : text
  const { event: _event, ...facts } = entry.fields
  const tail = logfmt(facts)
  const first = `${paint('gray', time)} ${paint(colours[entry.level], word)} ${oneLine(entry.message)}`
  const lines = [tail === '' ? first : `${first}  ${paint('gray', tail)}`, ...stackLines(entry.fields)]
  return lines.map((line) => `${line.slice(0, logLineCharactersMax)}\n`).join('')
}

function sentence(message: string, fields: LogEntry['fields']): string {
  const tail = logfmt(fields)
  return tail === '' ? oneLine(message) : `${oneLine(message)} ${tail}`
}

function logfmt(fields: LogEntry['fields'], prefix = ''): string {
  return Object.entries(fields)
    .filter(([key, value]) => value !== undefined && key !== 'stack')
    .map(([key, value]) => pair(`${prefix}${oneLine(key).replaceAll(/[\s="]/g, '_')}`, value))
    .filter((text) => text !== '')
    .join(' ')
}

function pair(key: string, value: unknown): string {
  if (typeof value !== 'object' || value === null) return `${key}=${word(value)}`
  if (Array.isArray(value)) return `${key}=${quoted(JSON.stringify(value))}`
  return logfmt(value as LogEntry['fields'], `${key}.`)
}

function word(value: unknown): string {
  const text = String(value)
  return /^[\w.:/@+,%-]+$/.test(text) ? text : quoted(text)
}

function quoted(text: string): string {
  return escapeControls(JSON.stringify(text))
}

/** JSON escapes what is below space; DEL and the C1 controls drive terminals too. */
function escapeControls(text: string): string {
  return text.replaceAll(/[\u007f-\u009f\u2028\u2029]/g, (character) => {
    return `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`
  })
}

function oneLine(text: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what must not get through
  return text.replaceAll(/[\u0000-\u001f\u007f-\u009f\u2028\u2029]+/g, ' ')
}

function stackLines(fields: LogEntry['fields'], depth = 3): string[] {
  if (depth === 0) return []
  return Object.entries(fields).flatMap(([key, value]) => {
    if (key === 'stack' && typeof value === 'string')
      return value.split('\n').map((line) => `  ${oneLine(line)}`)
    if (typeof value !== 'object' || value === null || Array.isArray(value)) return []
    return stackLines(value as LogEntry['fields'], depth - 1)
  })
}
