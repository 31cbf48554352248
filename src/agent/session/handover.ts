// After a renewal the open connection still goes by the old certificate: it is opened anew at a quiet moment, or in time at the latest.

import type { Clock } from '../../lib/clock.ts'
import type { Logger } from '../../lib/log.ts'

/** How often it is looked whether nothing runs. */
export const lookIntervalMs = 1_000
/** Part of the old certificate's remaining life that may pass in waiting for a quiet moment. */
export const waitRatioMax = 0.5
/** However long that life is: an operator who rotates a CA waits for it. */
export const waitMsMax = 600_000

export interface HandoverOptions {
  readonly session: { readonly isOnline: boolean; reconnect(reason: string): void }
  /** The connection was opened with the certificate of now. */
  isCurrent(): boolean
  /** No operation runs or waits, and no console is open. Nothing but the latter would be lost otherwise: commands and results are sent again. */
  isQuiet(): boolean
  readonly clock: Clock
  readonly log: Logger
}

export class Handover implements Disposable {
  readonly #options: HandoverOptions
  #timer: Disposable | undefined
  #latestAt = 0

  constructor(options: HandoverOptions) {
    this.#options = options
  }

  /** `expiresAt`: of the certificate that the connection was opened with. */
  begin(expiresAt: number): void {
    const now = this.#options.clock.now()
    this.#latestAt = now + Math.min(waitMsMax, Math.max(0, expiresAt - now) * waitRatioMax)
    this.#look()
  }

  [Symbol.dispose](): void {
    this.#timer?.[Symbol.dispose]()
  }

  #look(): void {
    const { session, clock, log, isCurrent, isQuiet } = this.#options
    this.#timer?.[Symbol.dispose]()
    if (isCurrent()) return
    const quiet = isQuiet()
    if (session.isOnline && (quiet || clock.now() >= this.#latestAt)) {
      log.info({ quiet }, 'connection is opened anew with the new certificate')
      session.reconnect('the certificate was renewed')
    }
    // Also after that: one that was just being opened may have begun with the old one.
    this.#timer = clock.timer(lookIntervalMs, () => this.#look())
  }
}
