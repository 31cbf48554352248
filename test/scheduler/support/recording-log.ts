// A log that a test can read.

import type { LogFields, Logger } from '../../../src/lib/log.ts'

export interface LogEntry {
  readonly level: 'debug' | 'info' | 'warn' | 'error'
  readonly message: string
  readonly fields: LogFields
}

export class RecordingLog implements Logger {
  readonly entries: LogEntry[]
  readonly #fields: LogFields

  constructor(entries: LogEntry[] = [], fields: LogFields = {}) {
    this.entries = entries
    this.#fields = fields
  }

  debug = this.#record('debug')
  info = this.#record('info')
  warn = this.#record('warn')
  error = this.#record('error')

  child(fields: LogFields): Logger {
    return new RecordingLog(this.entries, { ...this.#fields, ...fields })
  }

  /** Everything that was logged, as one text: to look for what must not be there. */
  text(): string {
    return this.entries.map(({ message, fields }) => `${message} ${JSON.stringify(fields)}`).join('\n')
  }

  #record(level: LogEntry['level']) {
    return (fields: LogFields, message: string) => {
      this.entries.push({ level, message, fields: { ...this.#fields, ...fields } })
    }
  }
}
