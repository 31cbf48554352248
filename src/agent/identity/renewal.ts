// Renews this host's certificate while the old one is still good: at a random 70 to 90 percent of its life.

import { asHostletError, HostletError } from '../../errors.ts'
import { Backoff } from '../../lib/backoff.ts'
import type { Clock } from '../../lib/clock.ts'
import { startDeadline } from '../../lib/deadline.ts'
import type { Logger } from '../../lib/log.ts'
import { EnrollmentReply } from '../../protocol/enrollment.ts'
import { compile } from '../../protocol/validate.ts'
import { askScheduler } from './ask-scheduler.ts'
import { createRequest } from './certificate-request.ts'
import { checkIdentity, tlsSettings, validityOf } from './certificates.ts'
import { type Identity, saveIdentity } from './identity.ts'
import { adopt, renewalWanted, serialOf } from './trust.ts'
import type { CurrentIdentity } from './trust-keeper.ts'

export const renewalPath = '/v1/renew'
/** Timers count no further than 24.8 days; a day is often enough to look. */
export const lookAgainMsMax = 24 * 3_600_000
export const renewalDeadlineMs = 60_000
/** From one renewal to the next at least: the scheduler dates certificates back, and a very short life would be over its 90 percent at once. */
export const renewalGapMsMin = 5_000
const retry = { baseMs: 300_000, capMs: 6 * 3_600_000 }
/** Without a certificate the host can do nothing else. */
const expiredRetry = { baseMs: 5_000, capMs: 300_000 }
/** What the connection says may bring a try forward, not nearer to the one before than this. */
export const hurryMsMin = 30_000
const parseReply = compile(EnrollmentReply, 'answer of the scheduler')

export interface RenewalOptions {
  readonly stateDirectory: string
  /** `wss:` addresses; the same hosts serve the API. */
  readonly urls: readonly string[]
  readonly clock: Clock
  readonly log: Logger
  readonly random?: () => number
  /** Called after each; `before` is what it was until then. */
  onRenewed(identity: Identity, before: Identity): void
}

export class Renewal implements Disposable {
  readonly #options: RenewalOptions
  readonly #stopping = new AbortController()
  readonly #backoff: Backoff
  readonly #expiredBackoff: Backoff
  readonly #random: () => number
  readonly #identity: CurrentIdentity
  #dueAt: number
  #timer: Disposable | undefined
  #triedAt = Number.NEGATIVE_INFINITY
  #isTrying = false

  constructor(identity: CurrentIdentity, options: RenewalOptions) {
    this.#options = options
    this.#identity = identity
    this.#random = options.random ?? Math.random
    this.#backoff = new Backoff({ ...retry, random: this.#random })
    this.#expiredBackoff = new Backoff({ ...expiredRetry, random: this.#random })
    this.#dueAt = this.#chooseTime()
  }

  /** Milliseconds since the epoch. */
  get dueAt(): number {
    return this.#dueAt
  }

  start(): void {
    this.#timer?.[Symbol.dispose]()
    const waitMs = Math.min(lookAgainMsMax, Math.max(0, this.#dueAt - this.#options.clock.now()))
    this.#timer = this.#options.clock.timer(waitMs, () => void this.#look())
  }

  /** The certificate is needed anew now: it has expired, or the scheduler says so. */
  hurry(): void {
    const { clock } = this.#options
    if (this.#isTrying || clock.monotonic() - this.#triedAt < hurryMsMin) return
    this.#dueAt = Math.min(this.#dueAt, clock.now())
    this.#timer?.[Symbol.dispose]()
    this.start()
  }

  /** Looks again when to renew: another CA may be the one that signs. */
  reconsider(): void {
    if (renewalWanted(this.#identity.value) === undefined || this.#stopping.signal.aborted) return
    this.#dueAt = Math.min(this.#dueAt, this.#chooseTime())
    if (!this.#isTrying) this.start()
  }

  [Symbol.dispose](): void {
    this.#stopping.abort(new Error('the agent stops'))
    this.#timer?.[Symbol.dispose]()
  }

  async #look(): Promise<void> {
    const { clock, log } = this.#options
    if (clock.now() >= this.#dueAt) {
      this.#isTrying = true
      try {
        await this.#renew()
      } catch (thrown) {
        if (this.#stopping.signal.aborted) return
        const expired = clock.now() > validityOf(this.#identity.value.certificate).to
        this.#dueAt = clock.now() + (expired ? this.#expiredBackoff : this.#backoff).nextMs()
        log.warn(
          { error: asHostletError(thrown), expired, nextAt: this.#dueAt },
          'certificate could not be renewed'
        )
      } finally {
        this.#isTrying = false
        this.#triedAt = clock.monotonic()
      }
    }
    if (!this.#stopping.signal.aborted) this.start()
  }

  async #renew(): Promise<void> {
    const { clock, log, stateDirectory, onRenewed } = this.#options
    const { key, certificateRequest } = await createRequest(this.#identity.value.hostId)
    const { certificate, schedulerUrls, trust = [] } = parseReply(await this.#ask(certificateRequest))
    const before = this.#identity.value
    // Keys and CAs of the answer count for nothing: it is as trustworthy as TLS, and these change by statements alone.
    const renewed: Identity = { ...trust.reduce(adoptNewer, before), certificate, key, schedulerUrls }
    checkIdentity(renewed, clock.now())
    saveIdentity(stateDirectory, renewed)
    this.#identity.value = renewed
    this.#backoff.reset()
    this.#expiredBackoff.reset()
    this.#dueAt = Math.max(this.#chooseTime(), clock.now() + renewalGapMsMin)
    log.info({ expiresAt: validityOf(renewed.certificate).to, nextAt: this.#dueAt }, 'certificate renewed')
    onRenewed(renewed, before)
  }

  /** Every address once. */
  async #ask(certificateRequest: string): Promise<unknown> {
    const { clock, urls } = this.#options
    let failure: unknown
    for (const address of urls) {
      const { signal: stop } = this.#stopping
      using deadline = startDeadline({ clock, ms: renewalDeadlineMs, what: 'the renewal', signal: stop })
      const url = new URL(renewalPath, address.replace(/^wss:/, 'https:'))
      try {
        const tls = tlsSettings(this.#identity.value)
        const body = { certificateRequest, trustSerial: serialOf(this.#identity.value) }
        return await askScheduler({ url, body, tls, signal: deadline.signal })
      } catch (error) {
        failure = error
      }
    }
    throw failure
  }

  #chooseTime(): number {
    const { from, to } = validityOf(this.#identity.value.certificate)
    const byAge = Math.floor(from + (to - from) * (0.7 + 0.2 * this.#random()))
    const wanted = renewalWanted(this.#identity.value)
    if (wanted === undefined) return byAge
    // Spread over time, so that a fleet does not come all at once.
    return Math.min(byAge, this.#options.clock.now() + Math.floor(wanted.withinMs * this.#random()))
  }
}

function adoptNewer(identity: Identity, statement: string): Identity {
  try {
    return adopt(identity, statement)
  } catch (error) {
    // Another one was adopted over the socket meanwhile.
    if (error instanceof HostletError && error.code === 'E_STALE') return identity
    throw error
  }
}
