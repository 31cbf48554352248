// Commands in, answers out: verifies, refuses or records, acknowledges, and sees every operation to its end.

import { asHostletError, HostletError } from '../../errors.ts'
import type { Clock } from '../../lib/clock.ts'
import { startDeadline } from '../../lib/deadline.ts'
import { KeyedLock } from '../../lib/keyed-lock.ts'
import { Limiter, type Ticket } from '../../lib/limiter.ts'
import type { Logger } from '../../lib/log.ts'
import type { CommandClaims, CommandResult, CommandSubject } from '../../protocol/command.ts'
import type { AgentMessage } from '../../protocol/messages.ts'
import type { CommandVerifier, VerifiedCommand } from './command-verifier.ts'
import { agentStops, Engine, type HostReadiness, recordRetryMs } from './engine.ts'
import { type Journal, type JournalEntry, staleCommand } from './journal.ts'
import { progressMessage } from './progress.ts'
import { Reads } from './reads.ts'
import { boundedReport, resultOf } from './result.ts'
import type { Verb } from './verb.ts'
import { checkSubject, lockKeyOf, type PreparedCommand, VerbTable } from './verb-table.ts'

/** Commands that are being looked at and neither refused nor recorded yet. */
export const receivingMax = 64
/** How long a verb may take to see that something is impossible. */
export const checkDeadlineMs = 15_000
/** Looking does not wait behind changes. */
export const readsAtOnceMax = 4
export const readsWaitingMax = 64

export interface DispatcherOptions<Host> {
  readonly host: Host
  readonly verbs: readonly Verb<Host>[]
  readonly journal: Journal
  readonly verifier: CommandVerifier
  readonly readiness: HostReadiness
  /** The generation that the VM's own metadata tell, 0 when there is no such VM. */
  generationOf(subject: CommandSubject, signal: AbortSignal): Promise<number>
  /** Sends to the scheduler, or drops when it is away: results are taken up again from `unacknowledged`. */
  emit(message: AgentMessage): void
  /** An operation that changes VMs has ended, well or not. */
  onChanged?(): void
  readonly clock: Clock
  readonly log: Logger
  readonly concurrencyMax: number
  readonly waitingMax: number
  readonly random?: () => number
}

interface Work<Host> extends PreparedCommand<Host> {
  readonly entry: JournalEntry
  readonly ticket: Ticket
}

export class Dispatcher<Host> {
  readonly #options: DispatcherOptions<Host>
  readonly #verbs: VerbTable<Host>
  readonly #engine: Engine<Host>
  readonly #reads: Reads<Host>
  readonly #locks = new KeyedLock()
  readonly #receiving = new KeyedLock({ waitersMax: receivingMax })
  readonly #limiter: Limiter
  readonly #stopping = new AbortController()
  readonly #operations = new Set<Promise<void>>()
  #received = 0
  #leftovers = 0

  constructor(options: DispatcherOptions<Host>) {
    this.#options = options
    this.#verbs = new VerbTable(options.verbs)
    this.#engine = new Engine(options)
    this.#limiter = new Limiter(options)
    this.#reads = new Reads({
      ...options,
      limiter: new Limiter({ concurrencyMax: readsAtOnceMax, waitingMax: readsWaitingMax }),
      stop: this.#stopping.signal
    })
  }

  get running(): number {
    return this.#limiter.running
  }

  get waiting(): number {
    return this.#limiter.waiting
  }

  /** Operations since the start that could not be undone wholly. */
  get leftovers(): number {
    return this.#leftovers
  }

  /** Answers one command: `ack` once it is on disk (or was before), or `refusal`. Never throws. */
  async receive(jws: string): Promise<void> {
    if (this.#received >= receivingMax)
      return this.#refuse(
        undefined,
        new HostletError('E_BUSY', 'the agent takes no more commands now. Try again later.')
      )
    this.#received++
    try {
      const command = await this.#options.verifier.verify(jws)
      await this.#answer(command)
    } catch (error) {
      this.#refuse(undefined, error)
    } finally {
      this.#received--
    }
  }

  /** Takes up what an earlier run of the agent left unfinished. Call once, before the first command. */
  resume(): void {
    for (const entry of this.#options.journal.unfinished()) this.#resumeOne(entry)
  }

  /** Results that the scheduler has yet to acknowledge, the oldest first; a bounded number at a time. */
  unacknowledged(): readonly CommandResult[] {
    return [...this.#options.journal.unacknowledged(), ...this.#reads.unacknowledged()]
  }

  /** The scheduler has stored the result. Unknown commands are ignored. */
  acknowledge(command: string): void {
    this.#reads.acknowledge(command)
    this.#options.journal.acknowledge(command)
  }

  /** Takes no more commands and interrupts what runs, to be resumed by the next start. Waits for it so long. */
  async stop(graceMs: number): Promise<void> {
    this.#stopping.abort(agentStops)
    const over = new AbortController()
    const ended = Promise.allSettled([...this.#operations, this.#reads.ended()])
    const late = this.#options.clock.sleep(graceMs, over.signal).catch(() => undefined)
    await Promise.race([ended, late])
    over.abort()
  }

  /** One command id at a time, so that a command that is sent twice at once is taken once. */
  async #answer(command: VerifiedCommand): Promise<void> {
    const { id } = command.claims
    try {
      await using _held = await this.#receiving.acquire(id, this.#stopping.signal)
      if (!this.#repeated(command)) await this.#take(command)
    } catch (error) {
      this.#refuse(command.claims, nothingHappened(error))
    }
  }

  #repeated({ claims, digest }: VerifiedCommand): boolean {
    const known = this.#options.journal.find(claims.id) ?? this.#reads.find(claims.id)
    if (known === undefined) return false
    if (known.digest !== digest)
      throw new HostletError(
        'E_CONFLICT',
        `another command was recorded under the id ${claims.id}. Use a new id for each command.`
      )
    if (!this.#reads.isRunning(claims.id))
      this.#options.emit({ type: 'ack', command: claims.id, repeated: true })
    if (known.result !== undefined) this.#options.emit({ type: 'result', result: known.result })
    return true
  }

  async #take({ claims, digest }: VerifiedCommand): Promise<void> {
    this.#options.verifier.checkTime(claims)
    const prepared = this.#verbs.prepare(claims)
    const { verb, params } = prepared
    checkSubject(verb, claims, params)
    if (!verb.changes && verb.lock === 'none') return this.#reads.begin({ claims, digest, verb, params })
    const ticket = this.#limiter.enter()
    try {
      const entry = await this.#record(prepared, claims, digest)
      this.#options.emit({ type: 'ack', command: claims.id, repeated: false })
      this.#logOf(entry).info({}, 'command accepted')
      this.#own(this.#run({ ...prepared, entry, ticket }))
    } catch (error) {
      ticket[Symbol.dispose]()
      throw error
    }
  }

  async #record(
    prepared: PreparedCommand<Host>,
    claims: CommandClaims,
    digest: string
  ): Promise<JournalEntry> {
    const { clock, journal } = this.#options
    const signal = this.#stopping.signal
    using deadline = startDeadline({
      clock,
      ms: checkDeadlineMs,
      what: `the check of ${claims.verb}`,
      signal
    })
    await this.#checkGeneration(claims, deadline.signal)
    await this.#checkVerb(prepared, claims, deadline.signal)
    deadline.signal.throwIfAborted()
    return journal.accept(claims, digest)
  }

  /** The journal has the last word, in the transaction that records; the host knows what a lost journal knew. */
  async #checkGeneration({ subject }: CommandClaims, signal: AbortSignal): Promise<void> {
    if (subject === undefined) return
    const recorded = this.#options.journal.generationOf(subject.uuid) ?? 0
    if (recorded >= subject.generation) throw staleCommand(subject, recorded)
    const known = await this.#options.generationOf(subject, signal)
    if (known >= subject.generation) throw staleCommand(subject, known)
  }

  async #checkVerb(
    { verb, params }: PreparedCommand<Host>,
    claims: CommandClaims,
    signal: AbortSignal
  ): Promise<void> {
    await verb.check?.(params, this.#options.host, {
      id: claims.id,
      verb: claims.verb,
      subject: claims.subject,
      signal,
      log: this.#options.log.child({ command: claims.id, verb: claims.verb }),
      notes: {},
      progress: () => undefined
    })
  }

  #resumeOne(entry: JournalEntry): void {
    const log = this.#logOf(entry)
    try {
      const prepared = this.#verbs.prepare(entry.claims)
      log.info({ state: entry.state, step: entry.step, attempts: entry.attempts }, 'operation resumed')
      this.#own(this.#run({ ...prepared, entry, ticket: this.#limiter.enter({ always: true }) }))
    } catch (error) {
      log.error({ error }, 'operation cannot be resumed by this version')
      this.#own(this.#end(entry, { outcome: 'failed', error: asHostletError(error).toReport() }))
    }
  }

  async #run(work: Work<Host>): Promise<void> {
    const { entry, verb, params, ticket } = work
    const { signal: stop } = this.#stopping
    using _place = ticket
    await using _held = await this.#locks.acquire(lockKeyOf(verb, entry.claims, params), stop)
    await ticket.turn(stop)
    const log = this.#logOf(entry)
    const onProgress = progressMessage(entry.id, this.#options)
    const startedAt = this.#options.clock.monotonic()
    const outcome = await this.#engine.run({ entry, verb, params, log, stop, onProgress })
    if (outcome === undefined) return log.info({}, 'operation interrupted by the stop of the agent')
    await this.#end(entry, this.#verbs.checkOutcome(verb, outcome))
    const durationMs = Math.round(this.#options.clock.monotonic() - startedAt)
    if (outcome.outcome === 'failed' && outcome.error.details?.undoFailed !== undefined) this.#leftovers++
    if (outcome.outcome === 'done') log.info({ durationMs }, 'operation done')
    else log.warn({ durationMs, error: outcome.error }, 'operation failed')
    if (verb.changes) this.#options.onChanged?.()
  }

  /** Records the end, however long the disk refuses; only then is it told. */
  async #end(entry: JournalEntry, outcome: Parameters<typeof resultOf>[1]): Promise<void> {
    const { journal, clock, emit } = this.#options
    const finishedAt = clock.now()
    for (;;) {
      try {
        const startedAt = journal.find(entry.id)?.startedAt
        const result = resultOf({ id: entry.id, startedAt }, outcome, finishedAt)
        journal.finish(result)
        return emit({ type: 'result', result })
      } catch (error) {
        this.#logOf(entry).error({ error }, 'result could not be recorded, trying again')
        await clock.sleep(recordRetryMs, this.#stopping.signal)
      }
    }
  }

  /** The owner of an operation's promise. What escapes is the journal failing, or the agent stopping. */
  #own(operation: Promise<void>): void {
    const owned = operation
      .catch((error) => {
        if (!this.#stopping.signal.aborted)
          this.#options.log.error({ error }, 'operation left unfinished, the next start resumes it')
      })
      .finally(() => this.#operations.delete(owned))
    this.#operations.add(owned)
  }

  #refuse(claims: CommandClaims | undefined, thrown: unknown): void {
    const error = asHostletError(thrown)
    const fields = { command: claims?.id, verb: claims?.verb, vm: claims?.subject?.vm, error }
    if (error.code === 'E_INTERNAL') this.#options.log.error(fields, 'command refused')
    else this.#options.log.warn(fields, 'command refused')
    const report = boundedReport(error.toReport())
    this.#options.emit({ type: 'refusal', ...(claims && { command: claims.id }), error: report })
  }

  #logOf({ id, claims }: JournalEntry): Logger {
    return this.#options.log.child({ command: id, verb: claims.verb, vm: claims.subject?.vm })
  }
}

/** Before a command is recorded no outcome is unknown: what a wait or a stop cut short may be sent again. */
function nothingHappened(thrown: unknown): HostletError {
  const error = asHostletError(thrown)
  if (error.code !== 'E_TIMEOUT' && error.code !== 'E_INTERRUPTED' && error.code !== 'E_CANCELLED')
    return error
  return new HostletError('E_UNAVAILABLE', `the command was not begun: ${error.message}`, {
    cause: error,
    details: { ...error.details, reason: error.code }
  })
}
