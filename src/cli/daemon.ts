// Runs agent or scheduler in the foreground: from its configuration to the signal that ends it.

import { asHostletError, type HostletError } from '../errors.ts'
import type { LogLevel } from '../lib/log-form.ts'
import type { OutputLogger } from '../lib/log-output.ts'
import { configExitCode } from './exit-codes.ts'
import { ExitStatus } from './exit-status.ts'

/** What is begun and can be ended. */
export interface Running {
  /** Resolves with why it cannot go on, if ever. It is stopped then, and the program ends with that error: its unit starts it again. */
  readonly failed?: Promise<HostletError>
  stop(): Promise<void>
}

export interface Lifecycle<Service extends Running> {
  readonly start: () => Promise<Service>
  /** Once it runs, until it is told to end; disposed before it is stopped. */
  readonly whileRunning?: (service: Service) => AsyncDisposable
  /** At SIGHUP. Without it SIGHUP does nothing: its default would end the process. */
  readonly reload?: (service: Service) => void
}

/** Loads a configuration; what is wrong with it ends the program with status 78, which its unit does not restart. */
export function loadOrExit<Config>(load: () => Config): Config {
  try {
    return load()
  } catch (error) {
    throw new ExitStatus(configExitCode, asHostletError(error))
  }
}

/** Starts, waits for SIGTERM or SIGINT, stops. A second such signal ends the process at once, as if nobody listened. */
export async function runUntilSignal<Service extends Running>(lifecycle: Lifecycle<Service>): Promise<void> {
  const { promise: told, resolve: tell } = Promise.withResolvers<void>()
  let service: Service | undefined
  const end = () => {
    process.off('SIGTERM', end)
    process.off('SIGINT', end)
    tell()
  }
  const reload = () => {
    if (service !== undefined) lifecycle.reload?.(service)
  }
  process.on('SIGTERM', end)
  process.on('SIGINT', end)
  process.on('SIGHUP', reload)
  service = await lifecycle.start()
  let failure: HostletError | undefined
  {
    await using _meanwhile = lifecycle.whileRunning?.(service)
    failure = (await Promise.race([told, ...(service.failed ? [service.failed] : [])])) ?? undefined
  }
  await service.stop()
  if (failure !== undefined) throw failure
}

/** What both daemons take over at SIGHUP. A file that is wrong changes nothing: the running configuration stays. */
export function reloadLogLevel(load: () => { log: { level: LogLevel } }, log: OutputLogger): void {
  try {
    const { level } = load().log
    log.setLevel(level)
    log.info(
      { logLevel: level },
      'configuration read again: log level taken over, other changes take a restart'
    )
  } catch (error) {
    log.error({ error: asHostletError(error) }, 'configuration not taken over: the one that runs stays')
  }
}
