// What the service manager is told: ready, status, stopping, and alive. Silent where no service manager asks.
// Source: sd_notify(3), systemd.service(5) "WatchdogSec=".

import type { Clock } from './clock.ts'
import { systemClock } from './clock.ts'
import { runProcess } from './run-process.ts'

/** One message is a few words of status; more than this would not be shown anywhere. */
const STATUS_CHARACTERS_MAX = 200
const SEND_DEADLINE_MS = 5_000

/** The fields of one message, such as `{ READY: '1', STATUS: 'Connected to sched-1; 12 VMs' }`. */
export type NotifyFields = Readonly<Record<string, string>>

export interface SystemdNotifyOptions {
  /** Default: the process's own. `NOTIFY_SOCKET`, `WATCHDOG_USEC` and `WATCHDOG_PID` are read. */
  readonly environment?: Readonly<Record<string, string | undefined>>
  readonly clock?: Clock
  /** How a message is sent. Default: the program `systemd-notify`. */
  readonly send?: (fields: NotifyFields, signal: AbortSignal) => Promise<void>
  /** Told of a message that could not be sent, of a self-check that failed, and of one that passes again. */
  readonly onTrouble?: (
    trouble: 'not-sent' | 'self-check-failed' | 'self-check-passed',
    cause?: unknown
  ) => void
}

/** True when the service does its work; the signal ends with the watchdog. */
export type SelfCheck = (signal: AbortSignal) => boolean | Promise<boolean>

/** Speaks to the service manager. No method throws: a service works on when its manager cannot be told. */
export class SystemdNotify {
  /** Whether a service manager listens. Without one every method does nothing. */
  readonly enabled: boolean
  /** How often the watchdog wants a ping, half of what `WatchdogSec` allows; undefined when it does not. */
  readonly watchdogIntervalMs: number | undefined
  readonly #clock: Clock
  readonly #send: (fields: NotifyFields, signal: AbortSignal) => Promise<void>
  readonly #onTrouble: NonNullable<SystemdNotifyOptions['onTrouble']>
  // One message after another: a "stopping" must never arrive before an earlier "ready".
  #last: Promise<void> = Promise.resolve()
  #status: string | undefined

  constructor(options: SystemdNotifyOptions = {}) {
    const environment = options.environment ?? process.env
    this.enabled = Boolean(environment.NOTIFY_SOCKET)
    this.watchdogIntervalMs = this.enabled ? watchdogInterval(environment) : undefined
    this.#clock = options.clock ?? systemClock
    this.#send = options.send ?? programSender(environment.NOTIFY_SOCKET ?? '', this.#clock)
    this.#onTrouble = options.onTrouble ?? (() => undefined)
  }

  /** The service is up: what waits for it may go on. */
  async ready(status: string, signal: AbortSignal): Promise<void> {
    this.#status = status
    await this.#notify({ READY: '1', STATUS: oneLine(status) }, signal)
  }

  /** One line for `systemctl status`. The same line again is not sent. */
  async status(status: string, signal: AbortSignal): Promise<void> {
    if (status === this.#status) return
    this.#status = status
    await this.#notify({ STATUS: oneLine(status) }, signal)
  }

  /** The configuration is being read again; `ready` ends it. */
  async reloading(signal: AbortSignal): Promise<void> {
    await this.#notify({ RELOADING: '1' }, signal)
  }

  /** The service goes down in an orderly way. */
  async stopping(status: string, signal: AbortSignal): Promise<void> {
    this.#status = status
    await this.#notify({ STOPPING: '1', STATUS: oneLine(status) }, signal)
  }

  /**
   * Pings the watchdog until disposed, each time only after the self-check has returned true. A self-check that returns
   * false, throws, or does not return is no ping, so that the service manager replaces a service that hangs.
   */
  watchdog(selfCheck: SelfCheck): Disposable {
    const stop = new AbortController()
    const intervalMs = this.watchdogIntervalMs
    if (intervalMs !== undefined) void this.#watch(selfCheck, intervalMs, stop.signal)
    return { [Symbol.dispose]: () => stop.abort(new Error('the watchdog is no longer needed')) }
  }

  async #watch(selfCheck: SelfCheck, intervalMs: number, signal: AbortSignal): Promise<void> {
    let wasWell = true
    while (!signal.aborted) {
      const { isWell, cause } = await outcomeOf(selfCheck, signal)
      if (signal.aborted) return
      if (isWell !== wasWell) this.#onTrouble(isWell ? 'self-check-passed' : 'self-check-failed', cause)
      wasWell = isWell
      if (isWell) await this.#notify({ WATCHDOG: '1' }, signal)
      await pause(this.#clock, intervalMs, signal)
    }
  }

  #notify(fields: NotifyFields, signal: AbortSignal): Promise<void> {
    if (!this.enabled) return Promise.resolve()
    this.#last = this.#last.then(async () => {
      if (signal.aborted) return
      try {
        await this.#send(fields, signal)
      } catch (error) {
        // So that the same status, said again, is tried again.
        this.#status = undefined
        if (!signal.aborted) this.#onTrouble('not-sent', error)
      }
    })
    return this.#last
  }
}

async function outcomeOf(
  selfCheck: SelfCheck,
  signal: AbortSignal
): Promise<{ isWell: boolean; cause?: unknown }> {
  try {
    return { isWell: await selfCheck(signal) }
  } catch (cause) {
    return { isWell: false, cause }
  }
}

/** Half of the time after which the manager loses patience; undefined where the watchdog is off or another process's. */
function watchdogInterval(environment: Readonly<Record<string, string | undefined>>): number | undefined {
  const { WATCHDOG_USEC, WATCHDOG_PID } = environment
  if (WATCHDOG_PID !== undefined && WATCHDOG_PID !== String(process.pid)) return undefined
  const microseconds = Number(WATCHDOG_USEC)
  return Number.isSafeInteger(microseconds) && microseconds > 0 ? microseconds / 2_000 : undefined
}

// Without --no-block: the manager finds the unit of a message by its sender, which has to be alive still. The program
// waits for the answer, a few milliseconds, and we for the program.
function programSender(socket: string, clock: Clock) {
  return async (fields: NotifyFields, signal: AbortSignal): Promise<void> => {
    const words = Object.entries(fields).map(([name, value]) => `${name}=${value}`)
    const environment = { PATH: process.env.PATH ?? '', NOTIFY_SOCKET: socket }
    const ended = await runProcess('systemd-notify', words, {
      signal,
      deadlineMs: SEND_DEADLINE_MS,
      environment,
      clock
    })
    if (ended.exitCode !== 0)
      throw new Error(`systemd-notify: ${ended.stderr.trim().slice(0, STATUS_CHARACTERS_MAX)}`)
  }
}

/** A message is lines of NAME=value, so a line break in a status would begin another field. */
function oneLine(status: string): string {
  return status.replace(/\s+/g, ' ').trim().slice(0, STATUS_CHARACTERS_MAX)
}

async function pause(clock: Clock, ms: number, signal: AbortSignal): Promise<void> {
  try {
    await clock.sleep(ms, signal)
  } catch (error) {
    if (!signal.aborted) throw error
  }
}
