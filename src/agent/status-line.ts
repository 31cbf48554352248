// What the service manager hears of the agent: that it is up, a line on how it is, and a sign of life after each self-check.

import type { Clock } from '../lib/clock.ts'
import type { SystemdNotify } from '../lib/systemd-notify.ts'

/** How often the line is looked at; the same line again is not sent. */
export const statusIntervalMs = 10_000

export interface StatusLineOptions {
  readonly notify: SystemdNotify
  readonly clock: Clock
  line(): string
  selfCheck(): boolean
}

export class StatusLine {
  readonly #options: StatusLineOptions
  readonly #stopping = new AbortController()
  #timer: Disposable | undefined
  #watchdog: Disposable | undefined

  constructor(options: StatusLineOptions) {
    this.#options = options
  }

  async begin(): Promise<void> {
    const { notify, line, selfCheck } = this.#options
    await notify.ready(line(), this.#stopping.signal)
    this.#watchdog = notify.watchdog(() => selfCheck())
    this.#schedule()
  }

  /** Says that the agent goes down, and nothing after that. */
  async end(): Promise<void> {
    this.#timer?.[Symbol.dispose]()
    await this.#options.notify.stopping('Stopping; VMs run on', this.#stopping.signal)
    this.#watchdog?.[Symbol.dispose]()
    this.#stopping.abort(new Error('the agent has stopped'))
  }

  #schedule(): void {
    const { clock, notify, line } = this.#options
    this.#timer = clock.timer(statusIntervalMs, () => {
      void notify.status(line(), this.#stopping.signal)
      this.#schedule()
    })
  }
}
