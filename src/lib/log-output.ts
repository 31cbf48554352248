// The log of a process: pino behind our interface, in the form that fits where the lines go.

import { writeSync } from 'node:fs'
import { type Logger as Pino, pino } from 'pino'
import type { LogFields, Logger } from './log.ts'
import { eventId } from './log-events.ts'
import { journalForm, type LogEntry, type LogLevel, prettyForm } from './log-form.ts'
import { redact } from './redact.ts'

export type LogFormat = 'auto' | 'journal' | 'json' | 'pretty'

/** Where lines go. Writing must not throw: a log never stops its process. */
export interface LogStream {
  write(text: string): unknown
  readonly isTTY?: boolean
}

export interface LogOptions {
  readonly format?: LogFormat
  readonly level?: LogLevel
  /** Standard output by default. */
  readonly stream?: LogStream
  readonly environment?: Readonly<Record<string, string | undefined>>
}

export interface OutputLogger extends Logger {
  /** Takes effect at once, on all children too. */
  setLevel(level: LogLevel): void
}

const levelNumbers: Readonly<Record<LogLevel, number>> = { debug: 20, info: 30, warn: 40, error: 50 }

/** Values under keys that name secrets are masked, whatever the form; see redact.ts. */
export function createLogger(options: LogOptions = {}): OutputLogger {
  const stream = options.stream ?? standardOutput()
  const format = chooseFormat(options.format ?? 'auto', stream, options.environment ?? process.env)
  const threshold = { number: levelNumbers[options.level ?? 'info'] }
  const root = pino(
    {
      level: 'debug',
      base: null,
      messageKey: 'message',
      formatters: { level: (label) => ({ level: label }), log: (fields) => withEvent(fields) }
    },
    { write: writer(format, stream) }
  )
  return {
    ...wrap(root, threshold),
    setLevel: (level) => {
      threshold.number = levelNumbers[level]
    }
  }
}

/** Journal where systemd says that it listens, pretty where a person looks, JSON for everything else. */
export function chooseFormat(
  format: LogFormat,
  stream: Pick<LogStream, 'isTTY'>,
  environment: Readonly<Record<string, string | undefined>>
): Exclude<LogFormat, 'auto'> {
  if (format !== 'auto') return format
  if (environment.JOURNAL_STREAM) return 'journal'
  return stream.isTTY ? 'pretty' : 'json'
}

/** The level is checked here and not by pino, whose children keep the level that they were born with. */
function wrap(target: Pino, threshold: { readonly number: number }): Logger {
  const at = (level: LogLevel) => (fields: LogFields, message: string) => {
    if (levelNumbers[level] < threshold.number) return
    // What is for developers alone has no id that others might rely on.
    target[level](level === 'debug' ? fields : { ...fields, [eventKey]: eventId(message) }, message)
  }
  return {
    debug: at('debug'),
    info: at('info'),
    warn: at('warn'),
    error: at('error'),
    child: (fields) => wrap(target.child(unreserved(redact(fields))), threshold)
  }
}

/** No key that a caller's facts can have. */
const eventKey: unique symbol = Symbol('event')

/** The facts, and last the id of the line. */
function withEvent(
  fields: Record<string, unknown> & { readonly [eventKey]?: string }
): Record<string, unknown> {
  const event = fields[eventKey]
  return { ...unreserved(redact(fields)), ...(event !== undefined && { event }) }
}

const reserved: ReadonlySet<string> = new Set(['level', 'time', 'message', 'event'])

/** A fact may not pass itself off as the entry's own level, time, message or id. */
function unreserved(fields: Record<string, unknown>): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(fields).map(([key, value]) => [reserved.has(key) ? `${key}_` : key, value])
  )
}

function writer(format: Exclude<LogFormat, 'auto'>, stream: LogStream): (line: string) => void {
  if (format === 'json') return (line) => void stream.write(line)
  const form =
    format === 'journal' ? journalForm : (entry: LogEntry) => prettyForm(entry, stream.isTTY === true)
  return (line) => {
    const { level, time, message, ...fields } = JSON.parse(line)
    stream.write(form({ level, message, fields, at: time }))
  }
}

const standardOutputDescriptor = 1

/** Synchronous, so that the last words of a dying process arrive; a reader that went away is not an error of ours. */
function standardOutput(): LogStream {
  return {
    isTTY: process.stdout.isTTY === true,
    write: (text) => {
      try {
        writeSync(standardOutputDescriptor, text)
      } catch (error) {
        if (!isBrokenOrFull(error)) throw error
      }
    }
  }
}

function isBrokenOrFull(error: unknown): boolean {
  return ['EPIPE', 'EAGAIN', 'ENOSPC', 'EIO'].includes(String((error as NodeJS.ErrnoException).code))
}
