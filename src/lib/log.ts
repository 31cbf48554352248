// What every part may ask of a log: constant messages with facts as fields, and children that carry ids along.

/** Facts of one entry. Keys are words (`vm`, `command`, `operation`, `error`); values never contain secrets. */
export type LogFields = Readonly<Record<string, unknown>>

/** The part of pino's interface that hostlet uses, so that nothing but the composition root knows pino. */
export interface Logger {
  debug(fields: LogFields, message: string): void
  info(fields: LogFields, message: string): void
  warn(fields: LogFields, message: string): void
  error(fields: LogFields, message: string): void
  child(fields: LogFields): Logger
}

/** For tests and for parts that were given none. */
export const silentLogger: Logger = {
  debug: () => undefined,
  info: () => undefined,
  warn: () => undefined,
  error: () => undefined,
  child: () => silentLogger
}
