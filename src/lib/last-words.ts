// The end of a process by an error that nothing caught: told in the log, and then left to end it.

import { asHostletError } from '../errors.ts'
import type { Logger } from './log.ts'

/** The part of a process that tells of what nothing caught. */
export interface Mortal {
  on(event: 'uncaughtExceptionMonitor', listener: (error: Error, origin: string) => void): unknown
  off(event: 'uncaughtExceptionMonitor', listener: (error: Error, origin: string) => void): unknown
}

/**
 * Logs an uncaught exception or unhandled rejection as E_INTERNAL, until disposed. The process ends all the same: what an
 * unknown fault left behind is no ground to work on, and a restart resumes from what is on disk.
 */
export function logLastWords(log: Logger, mortal: Mortal = process): Disposable {
  const tell = (error: Error, origin: string) =>
    log.error({ origin, error: asHostletError(error) }, 'unexpected error ends the process')
  mortal.on('uncaughtExceptionMonitor', tell)
  return { [Symbol.dispose]: () => void mortal.off('uncaughtExceptionMonitor', tell) }
}
