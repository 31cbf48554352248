// Commands that only look: not journaled, answered when done, remembered until the scheduler has the answer.

import { asHostletError, HostletError } from '../../errors.ts'
import type { Clock } from '../../lib/clock.ts'
import { type Limiter, retryAfterMsMin, type Ticket } from '../../lib/limiter.ts'
import type { Logger } from '../../lib/log.ts'
import type { CommandClaims, CommandResult } from '../../protocol/command.ts'
import type { AgentMessage } from '../../protocol/messages.ts'
import { atOnce, Engine } from './engine.ts'
import type { CommandTrail } from './gate.ts'
import type { JournalEntry } from './journal.ts'
import { resultOf } from './result.ts'
import type { OtherOperations, Outcome } from './verb.ts'
import { type PreparedCommand, VerbTable } from './verb-table.ts'

/** Looks that run, or whose answers nobody has acknowledged. */
export const readsMax = 256

export interface ReadCommand<Host> extends PreparedCommand<Host> {
  readonly claims: CommandClaims
  readonly digest: string
}

interface Read {
  readonly digest: string
  readonly expiresAt: number
  result: CommandResult | undefined
}

export interface ReadsOptions<Host> {
  readonly host: Host
  readonly clock: Clock
  readonly log: Logger
  readonly limiter: Limiter
  readonly stop: AbortSignal
  readonly others?: OtherOperations
  readonly trail: CommandTrail
  emit(message: AgentMessage): void
}

export class Reads<Host> {
  readonly #options: ReadsOptions<Host>
  readonly #engine: Engine<Host>
  readonly #outcomes = new VerbTable<Host>([])
  readonly #reads = new Map<string, Read>()
  readonly #running = new Set<Promise<void>>()

  constructor(options: ReadsOptions<Host>) {
    this.#options = options
    const journal = { begin: nothing, checkpoint: nothing, turnBack: nothing, durable: resolved }
    this.#engine = new Engine({ ...options, journal, readiness: atOnce })
  }

  find(id: string): Pick<Read, 'digest' | 'result'> | undefined {
    return this.#reads.get(id)
  }

  isRunning(id: string): boolean {
    const read = this.#reads.get(id)
    return read !== undefined && read.result === undefined
  }

  unacknowledged(): CommandResult[] {
    return [...this.#reads.values()].flatMap(({ result }) => (result === undefined ? [] : [result]))
  }

  acknowledge(id: string): void {
    if (!this.isRunning(id)) this.#reads.delete(id)
  }

  /**
   * Looks, and only then acknowledges, together with the answer: a command that an agent's end swallows is sent again.
   * Throws E_BUSY when too many are open. `note` writes it down, once it has a place; what that throws ends it.
   */
  async begin(command: ReadCommand<Host>, note: () => Promise<void>): Promise<void> {
    this.#forgetExpired()
    if (this.#reads.size >= readsMax)
      throw new HostletError(
        'E_BUSY',
        `${readsMax} answers wait for the scheduler's acknowledgement already`,
        {
          details: { retryAfterMs: retryAfterMsMin }
        }
      )
    const ticket = this.#options.limiter.enter()
    const { claims, digest } = command
    const read: Read = { digest, expiresAt: claims.expiresAt, result: undefined }
    this.#reads.set(claims.id, read)
    try {
      await note()
    } catch (error) {
      ticket[Symbol.dispose]()
      this.#reads.delete(claims.id)
      throw error
    }
    const owned = this.#answer(command, read, ticket).finally(() => this.#running.delete(owned))
    this.#running.add(owned)
  }

  async ended(): Promise<void> {
    await Promise.allSettled(this.#running)
  }

  async #answer(command: ReadCommand<Host>, read: Read, ticket: Ticket): Promise<void> {
    using _place = ticket
    const { id } = command.claims
    const startedAt = this.#options.clock.now()
    const outcome = await this.#look(command, ticket)
    if (outcome === undefined) return void this.#reads.delete(id)
    const result = resultOf({ id, startedAt }, outcome, this.#options.clock.now())
    await this.#noteEnd(command.claims, result)
    read.result = result
    this.#options.emit({ type: 'ack', command: id, repeated: false })
    this.#options.emit({ type: 'result', result })
  }

  /** A disk that refuses keeps no answer back: nothing was changed, and that it was asked is written down. */
  async #noteEnd(claims: CommandClaims, result: CommandResult): Promise<void> {
    const { trail, log } = this.#options
    await trail.note({ kind: 'ended', claims, result, looks: true }).catch((error) => {
      log.error(
        { command: claims.id, verb: claims.verb, error },
        'the end of a look could not be written down'
      )
    })
  }

  async #look(
    { claims, verb, params, digest }: ReadCommand<Host>,
    ticket: Ticket
  ): Promise<Outcome | undefined> {
    const { stop, log } = this.#options
    try {
      await ticket.turn(stop)
      const outcome = await this.#engine.run({
        entry: { ...blankEntry, id: claims.id, digest, claims },
        verb,
        params,
        log: log.child({ command: claims.id, verb: claims.verb }),
        stop,
        onProgress: nothing
      })
      return outcome && this.#outcomes.checkOutcome(verb, outcome)
    } catch (error) {
      if (stop.aborted) return undefined
      return { outcome: 'failed', error: asHostletError(error).toReport() }
    }
  }

  #forgetExpired(): void {
    const now = this.#options.clock.now()
    for (const [id, { expiresAt, result }] of this.#reads)
      if (result !== undefined && expiresAt < now) this.#reads.delete(id)
  }
}

const blankEntry = {
  state: 'accepted',
  attempts: 0,
  step: 0,
  notes: {},
  failure: undefined,
  result: undefined,
  acceptedAt: 0,
  startedAt: undefined,
  finishedAt: undefined,
  origin: 'command',
  cancelled: false
} as const satisfies Partial<JournalEntry>

function nothing(): void {}

async function resolved(): Promise<void> {}
