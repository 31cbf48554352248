// Has the scheduler countersign the trail: tells it the head, checks the receipt, and answers what it asks.

import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { asHostletError, HostletError } from '../../errors.ts'
import type { ChainEntry, EntryFields, Link } from '../../lib/chain.ts'
import { openLine } from '../../lib/chain.ts'
import type { Clock } from '../../lib/clock.ts'
import type { Logger } from '../../lib/log.ts'
import { writePrivateFile } from '../../lib/private-file.ts'
import type { CommandKey } from '../../protocol/enrollment.ts'
import type { AgentMessage, SchedulerMessageOf } from '../../protocol/messages.ts'
import type { TrailLink } from '../../protocol/trail.ts'
import { type Receipt, verifyReceipt } from './receipt.ts'
import { linesOf, listTrail, readSegment, receiptName } from './segments.ts'
import type { Written } from './writer.ts'

/** The head is told so often at most while a connection stands. */
export const headIntervalMs = 5_000
/** After a refusal it is told again so often: an operator may have accepted it meanwhile. */
export const refusedIntervalMs = 60_000

export type ReceiptAnswer = SchedulerMessageOf<'audit-receipt' | 'audit-question' | 'audit-refusal'>

export interface ReceiptOptions {
  readonly directory: string
  readonly clock: Clock
  readonly log: Logger
  hostId(): string
  keys(): readonly CommandKey[]
  tail(): Link
  append(kind: string, fields: EntryFields): Promise<unknown>
}

export class Receipts implements Disposable {
  readonly #options: ReceiptOptions
  #post: ((message: AgentMessage) => void) | undefined
  /** What the scheduler was told last and has not answered. */
  #told: Link | undefined
  #toldAt = Number.NEGATIVE_INFINITY
  #timer: Disposable | undefined
  /** The entry of the last receipt, as the trail has it. */
  #earlier: TrailLink | undefined
  /** The newest entry that wants a receipt, and the newest that has one. Receipts themselves want none. */
  #wanting = 0
  #receipted = 0
  #refusal: HostletError | undefined

  /** `entries`: those of the last file, as the start found them. */
  constructor(options: ReceiptOptions, entries: readonly ChainEntry[]) {
    this.#options = options
    for (const entry of entries) this.#remember(entry)
    const receipt = entries.findLast(({ kind }) => kind === 'receipt')
    const of = receipt?.of as TrailLink | undefined
    this.#receipted = of?.seq ?? 0
    const found = entries.find(({ seq }) => seq === of?.seq)
    this.#earlier = found && { seq: found.seq, hash: found.hash }
  }

  /** Why the scheduler gives no receipt, once it has said so. */
  get refusal(): HostletError | undefined {
    return this.#refusal
  }

  /** The scheduler has welcomed this agent: it is told where the trail stands, changed or not. */
  online(post: (message: AgentMessage) => void): void {
    this.#post = post
    this.#tell()
  }

  /** These are on disk. */
  written(entries: readonly Written[]): void {
    for (const entry of entries) this.#remember(entry)
    if (this.#wanting > this.#receipted) this.#tellSoon()
  }

  async take(message: ReceiptAnswer): Promise<void> {
    try {
      if (message.type === 'audit-question') this.#tell(this.#at(message.seq))
      else if (message.type === 'audit-refusal') await this.#refused(message)
      else await this.#receipt(message.jws)
    } catch (error) {
      this.#options.log.warn({ error: asHostletError(error) }, 'receipt of the audit trail is of no use')
    }
  }

  [Symbol.dispose](): void {
    this.#post = undefined
    this.#timer?.[Symbol.dispose]()
  }

  #remember({ seq, kind }: Pick<ChainEntry, 'seq' | 'kind'>): void {
    if (kind !== 'receipt') this.#wanting = seq
  }

  #tellSoon(): void {
    const { clock } = this.#options
    if (this.#post === undefined || this.#timer !== undefined || this.#refusal !== undefined) return
    const waitMs = Math.max(0, this.#toldAt + headIntervalMs - clock.monotonic())
    this.#timer = clock.timer(waitMs, () => {
      this.#timer = undefined
      if (this.#wanting > this.#receipted) this.#tell()
    })
  }

  #tellLater(): void {
    this.#timer?.[Symbol.dispose]()
    this.#timer = this.#options.clock.timer(refusedIntervalMs, () => {
      this.#timer = undefined
      this.#tell()
    })
  }

  #tell(earlier: { seq: number; hash: string | null } | undefined = this.#earlier): void {
    const tail = this.#options.tail()
    if (this.#post === undefined || tail.seq === 0) return
    this.#told = tail
    this.#toldAt = this.#options.clock.monotonic()
    this.#post({ type: 'audit-head', ...tail, ...(earlier && { earlier }) })
  }

  /** From the file: memory would tell what once was there. */
  #at(seq: number): { seq: number; hash: string | null } {
    const segment = listTrail(this.#options.directory).segments.findLast(({ first }) => first <= seq)
    if (segment === undefined) return { seq, hash: null }
    for (const line of linesOf(segment.name, readSegment(segment))) {
      const entry = openLine(line.bytes)
      if (entry?.seq === seq) return { seq, hash: entry.hash }
    }
    return { seq, hash: null }
  }

  async #receipt(jws: string): Promise<void> {
    const { directory, append, hostId, keys } = this.#options
    const told = this.#told
    const receipt = verifyReceipt(jws, keys())
    const { seq, hash, host, at: signedAt, kid } = receipt
    if (host !== hostId() || told?.seq !== seq || told.hash !== hash)
      throw new HostletError(
        'E_CONFLICT',
        `the receipt is for entry ${seq} of ${host}, which was not told now`
      )
    this.#told = undefined
    this.#refusal = undefined
    // Before its entry: whoever cuts the trail behind the entry has to deal with this as well.
    writePrivateFile(join(directory, receiptName), `${jws}\n`)
    this.#earlier = { seq, hash }
    const isNews = this.#wanting > this.#receipted
    this.#receipted = seq
    if (isNews) await append('receipt', { of: { seq, hash }, signedAt, kid, jws })
    if (this.#wanting > seq) this.#tellSoon()
  }

  async #refused({ seq, error }: SchedulerMessageOf<'audit-refusal'>): Promise<void> {
    const isNew = this.#refusal?.message !== error.message
    this.#told = undefined
    this.#refusal = new HostletError(error.code, error.message)
    this.#tellLater()
    if (!isNew) return
    this.#options.log.error({ seq, error }, 'the scheduler gives no receipt for the audit trail')
    await this.#options.append('receipt.refused', { of: seq, code: error.code, message: error.message })
  }
}

/** The newest receipt that lies beside the trail. Undefined where there is none that a key of these signed. */
export function keptReceipt(directory: string, keys: readonly CommandKey[]): Receipt | undefined {
  try {
    return verifyReceipt(readFileSync(join(directory, receiptName), 'utf8').trim(), keys)
  } catch {
    // None, or one of an earlier key: what it would prove, the scheduler can prove as well.
    return undefined
  }
}
