// One entry of the journal, read: when, how bad, the sentence and its facts; and whether it is about what was asked for.

import type { LogLevel } from '../../lib/log-form.ts'
import { type ReadLine, readLine } from '../../lib/log-read.ts'

export interface LogEntry extends ReadLine {
  /** Milliseconds since the epoch. */
  readonly at: number
  readonly level: LogLevel
  /** Who wrote it, where that was not the daemon itself: systemd about its unit. */
  readonly writer: string | undefined
  readonly cursor: string
  /** Goes on the entry before it: a line of a stack trace. */
  readonly goesOn: boolean
}

/** The journal's own form, `journalctl -o json`. Undefined for what is none. */
export function readEntry(line: string): LogEntry | undefined {
  const record = recordOf(line)
  if (record === undefined) return undefined
  const text = textOf(record.MESSAGE)
  const identifier = textOf(record.SYSLOG_IDENTIFIER)
  const isOurs = identifier.startsWith('hostlet')
  return {
    at: Math.floor(Number(record.__REALTIME_TIMESTAMP) / 1_000),
    level: levelOf(Number(record.PRIORITY ?? 6)),
    writer: isOurs ? undefined : identifier || 'unknown',
    cursor: textOf(record.__CURSOR),
    goesOn: isOurs && text.startsWith('  '),
    ...(isOurs ? readLine(text) : { message: text, fields: {} })
  }
}

function recordOf(line: string): Record<string, unknown> | undefined {
  if (!line.startsWith('{')) return undefined
  try {
    return JSON.parse(line)
  } catch {
    return undefined
  }
}

/** What is no UTF-8, or has control characters, comes as a list of bytes; a field that is there twice as a list of texts. */
function textOf(value: unknown): string {
  if (typeof value === 'string') return value
  if (!Array.isArray(value)) return ''
  return value.every((each) => typeof each === 'number')
    ? Buffer.from(value).toString('utf8')
    : textOf(value[0])
}

/** syslog's numbers. */
function levelOf(priority: number): LogLevel {
  if (priority <= 3) return 'error'
  if (priority === 4) return 'warn'
  return priority === 7 ? 'debug' : 'info'
}

export interface Filter {
  /** A VM by name or UUID, or an operation. */
  readonly subject?: string | undefined
  readonly event?: string | undefined
}

/** Keys under which lines name the VM or operation that they are about. */
const subjectKeys = ['vm', 'command', 'operation', 'uuid'] as const

export function matches({ fields }: LogEntry, { subject, event }: Filter): boolean {
  if (event !== undefined && fields.event !== event) return false
  if (subject === undefined) return true
  if (subjectKeys.some((key) => fields[key] === subject)) return true
  return listOf(fields.vms).includes(subject)
}

function listOf(text: string | undefined): readonly unknown[] {
  if (text === undefined || !text.startsWith('[')) return []
  try {
    const list: unknown = JSON.parse(text)
    return Array.isArray(list) ? list : []
  } catch {
    return []
  }
}
