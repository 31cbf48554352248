// Runs agent or scheduler in the foreground: from its configuration to the signal that ends it.

import { asHostletError } from '../errors.ts'
import { configExitCode } from './exit-codes.ts'
import { ExitStatus } from './exit-status.ts'

/** What is begun and can be ended. */
export interface Running {
  stop(): Promise<void>
}

/** Loads a configuration; what is wrong with it ends the program with status 78, which its unit does not restart. */
export function loadOrExit<Config>(load: () => Config): Config {
  try {
    return load()
  } catch (error) {
    throw new ExitStatus(configExitCode, asHostletError(error))
  }
}

/** Starts, waits for SIGTERM or SIGINT, stops. A second signal ends the process at once, as if nobody listened. */
export async function runUntilSignal(start: () => Promise<Running>): Promise<void> {
  const { promise: told, resolve: tell } = Promise.withResolvers<void>()
  const listener = () => {
    process.off('SIGTERM', listener)
    process.off('SIGINT', listener)
    tell()
  }
  process.on('SIGTERM', listener)
  process.on('SIGINT', listener)
  const running = await start()
  await told
  await running.stop()
}
