// A line of the log for eyes: time, level, the sentence, and its facts behind it.

import type { LogLevel } from '../../lib/log-form.ts'
import type { Cli } from '../cli.ts'
import { formatTime } from '../quantities.ts'
import { paint, plain, type Style } from '../table.ts'
import type { LogEntry } from './entry.ts'

const styles: Readonly<Record<LogLevel, Style>> = {
  debug: 'gray',
  info: 'green',
  warn: 'yellow',
  error: 'red'
}

export function entryText(entry: LogEntry, { colour }: Pick<Cli, 'colour'>): string {
  const painted = (style: Style, text: string) => (colour && text !== '' ? paint(style, text) : text)
  const { at, level, writer, message, fields } = entry
  const { event: _event, ...facts } = fields
  const tail = Object.entries(facts).map(([key, value]) => `${key}=${shown(value)}`)
  const sentence = plain(`${writer === undefined ? '' : `${writer}: `}${message}`)
  const head = `${painted('gray', formatTime(at))} ${painted(styles[level], level.toUpperCase().padEnd(5))} `
  return `${head}${sentence}${tail.length === 0 ? '' : `  ${painted('gray', plain(tail.join(' ')))}`}`
}

function shown(value: string): string {
  return /^[\w.:/@+,%-]+$/.test(value) ? value : JSON.stringify(value)
}

export function entryJson({ at, level, writer, message, fields }: LogEntry): string {
  const { event, ...facts } = fields
  return JSON.stringify({ at: new Date(at).toISOString(), level, event, writer, message, fields: facts })
}
