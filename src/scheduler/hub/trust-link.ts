// What one connection tells its host of trust: the statements that it lacks, before any command, and again while it lags.

import type { Logger } from '../../lib/log.ts'
import type { AgentMessageOf, SchedulerMessage } from '../../protocol/messages.ts'
import { trustBytesMax, trustStatementsMax } from '../../protocol/trust.ts'

/** How long an answer may take before the statements are sent again. */
export const trustUnansweredMs = 60_000
/** Statements at once, so that a message stays far below what an agent accepts. */
const batchMax = Math.min(trustStatementsMax, Math.floor((4 * 1024 * 1024) / trustBytesMax))

/** Whom hosts are to believe. */
export interface TrustSource {
  /** Of the statement in force. */
  readonly serial: number
  /** PEM of every CA whose hosts are let in, the one that signs first. */
  readonly bundle: string
  /** PEM of all CAs whose signatures count. */
  readonly authorities: readonly string[]
  statements(after: number, limit: number): Promise<readonly string[]>
  adopted(host: string, serial: number | undefined, fault?: string): Promise<void>
}

export interface TrustLinkOptions {
  readonly host: string
  readonly source: TrustSource
  readonly log: Logger
  now(): number
  send(message: SchedulerMessage): Promise<boolean>
}

export class TrustLink {
  readonly #options: TrustLinkOptions
  /** What the host goes by; undefined for an agent that knows no statements, and until it has said hello. */
  #serial: number | undefined
  #sentAt: number | undefined

  constructor(options: TrustLinkOptions) {
    this.#options = options
  }

  /** What is to be sent right behind the welcome, if anything. */
  async begin(serial: number | undefined): Promise<SchedulerMessage | undefined> {
    const { host, source } = this.#options
    this.#serial = serial
    await source.adopted(host, serial)
    return await this.#message()
  }

  /** Sends what the host lacks. */
  async tell(): Promise<void> {
    const message = await this.#message()
    if (message !== undefined) await this.#options.send(message)
  }

  async acknowledged({ serial, fault }: AgentMessageOf<'trust-ack'>): Promise<void> {
    const { host, source, log } = this.#options
    const before = this.#serial
    this.#serial = serial
    this.#sentAt = undefined
    await source.adopted(host, serial, fault?.message)
    if (fault === undefined) log.info({ serial }, 'host goes by trust statement')
    else
      log.error({ serial, code: fault.code, reason: fault.message }, 'host did not adopt a trust statement')
    // The next batch; one that helped nothing is not sent at once again.
    if (before === undefined || serial > before) await this.tell()
    else this.#sentAt = this.#options.now()
  }

  /** With each heartbeat: what was lost, or could not be written down, is told again after a while. */
  async remind(): Promise<void> {
    if (this.#sentAt === undefined || this.#options.now() - this.#sentAt > trustUnansweredMs)
      await this.tell()
  }

  async #message(): Promise<SchedulerMessage | undefined> {
    const { source, now } = this.#options
    if (this.#serial === undefined || this.#serial >= source.serial) return undefined
    const statements = await source.statements(this.#serial, batchMax)
    if (statements.length === 0) return undefined
    this.#sentAt = now()
    return { type: 'trust', statements: [...statements] }
  }
}
