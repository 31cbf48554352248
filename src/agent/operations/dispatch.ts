// Commands in, answers out: verifies, refuses or records, acknowledges, and sees every operation to its end.

import { asHostletError, HostletError } from '../../errors.ts'
import { KeyedLock } from '../../lib/keyed-lock.ts'
import { Limiter, type Ticket } from '../../lib/limiter.ts'
import type { Logger } from '../../lib/log.ts'
import type { CommandClaims, CommandResult } from '../../protocol/command.ts'
import { Admission, passing } from './admission.ts'
import { Arrivals, receivingMax } from './arrivals.ts'
import type { DispatcherOptions } from './dispatcher-options.ts'
import { Drain } from './drain.ts'
import { Endings } from './endings.ts'
import { agentStops, cancelled, Engine, neverBegun } from './engine.ts'
import { type CommandGate, type CommandTrail, noTrail, openGate, type SignedCommand } from './gate.ts'
import type { JournalEntry } from './journal.ts'
import { Lanes } from './lanes.ts'
import { type LocalOperation, LocalOperations, type LocalRequest, localClaims, localDigest } from './local.ts'
import { Planner } from './planner.ts'
import { notedProgress, progressMessage } from './progress.ts'
import { Reads } from './reads.ts'
import { notCancellable, nothingHappened, otherCommand, type Refuse, unknownOperation } from './refusals.ts'
import { RefusedCommands } from './refused-commands.ts'
import { boundedReport } from './result.ts'
import { type Turn, Turns } from './turns.ts'
import type { CancellationState } from './verb.ts'
import { checkSubject, type PreparedCommand, VerbTable } from './verb-table.ts'

/** Looking does not wait behind changes. */
export const readsAtOnceMax = 4
export const readsWaitingMax = 64

interface Work<Host> extends PreparedCommand<Host> {
  readonly entry: JournalEntry
  readonly ticket: Ticket
}

export class Dispatcher<Host> {
  readonly #options: DispatcherOptions<Host>
  readonly #verbs: VerbTable<Host>
  readonly #engine: Engine<Host>
  readonly #reads: Reads<Host>
  readonly #admission: Admission<Host>
  readonly #gate: CommandGate
  readonly #trail: CommandTrail
  readonly #turns: Turns
  readonly #arrivals = new Arrivals()
  readonly #receiving = new KeyedLock({ waitersMax: receivingMax })
  readonly #lanes: Lanes
  readonly #drain: Drain
  readonly #endings: Endings
  readonly #local = new LocalOperations()
  readonly #refused = new RefusedCommands()
  readonly #stopping = new AbortController()
  readonly #operations = new Set<Promise<void>>()
  #leftovers = 0

  constructor(options: DispatcherOptions<Host>) {
    this.#options = options
    this.#verbs = new VerbTable(options.verbs)
    this.#gate = options.gate ?? openGate
    this.#trail = options.trail ?? noTrail
    this.#turns = options.turns ?? new Turns(options.clock)
    this.#lanes = new Lanes(options)
    const { database } = options.journal
    this.#drain = new Drain({
      ...options,
      database,
      operations: () => this.running + this.waiting,
      onChanged: () => options.onDrain?.()
    })
    const cancel = (id: string, signal: AbortSignal) => this.cancel(id, signal)
    const ends = { trail: this.#trail, local: this.#local, stop: this.#stopping.signal }
    this.#endings = new Endings({ ...options, ...ends })
    const planner = new Planner({ ...options, verbs: this.#verbs, drain: this.#drain, gate: this.#gate })
    const others = { cancel, drain: this.#drain, plan: planner.plan }
    this.#engine = new Engine({ ...options, others })
    const operationOn = (vm: string) => this.#turns.operationOn(vm)
    this.#admission = new Admission({ ...options, operationOn, stop: this.#stopping.signal })
    this.#reads = new Reads({
      ...options,
      ...ends,
      others,
      limiter: new Limiter({ concurrencyMax: readsAtOnceMax, waitingMax: readsWaitingMax })
    })
  }

  get running(): number {
    return this.#lanes.running
  }

  get waiting(): number {
    return this.#lanes.waiting
  }

  /** Since when the host takes no new work; undefined while it does. */
  get drainingSince(): number | undefined {
    return this.#drain.since
  }

  /** Operations since the start that could not be undone wholly. */
  get leftovers(): number {
    return this.#leftovers
  }

  /** Answers a command and what others signed of it: `ack` once it is on disk (or was before), or `refuse`. Never throws. */
  async receive(jws: string, approvals: readonly string[] = [], refuse?: Refuse): Promise<void> {
    try {
      using _place = this.#arrivals.place()
      const verified = this.#options.verifier.verify(jws)
      const { command, turn } = await this.#arrivals.enter(verified, this.#stopping.signal)
      await this.#answer({ ...command, approvals }, turn, refuse)
    } catch (error) {
      await this.#refuse(undefined, error, refuse)
    }
  }

  /**
   * Begins what the agent does by itself, without a signature. Resolves once it is on disk; throws what a command would be
   * refused with, and then nothing happened. The verb's check sees the VM's present generation, not a newer one.
   */
  async begin(request: LocalRequest): Promise<LocalOperation> {
    this.#stopping.signal.throwIfAborted()
    const claims = localClaims(request, this.#options.clock)
    try {
      const note = () => this.#trail.note({ kind: 'begun', claims })
      const { id } = await this.#record(claims, localDigest, this.#verbs.prepare(claims), note)
      const operation = this.#local.require(id)
      await this.#options.journal.durable()
      return operation
    } catch (error) {
      throw nothingHappened(error)
    }
  }

  /** The agent's own operations that have not ended, those of an earlier run of it included. */
  localOperations(): readonly LocalOperation[] {
    return this.#local.all()
  }

  /** See `OtherOperations`. An operation that was about to end when it was cancelled may still end as it would have. */
  async cancel(id: string, signal: AbortSignal): Promise<CancellationState> {
    await using _held = await this.#receiving.acquire(id, signal)
    const entry = this.#options.journal.find(id)
    if (entry === undefined)
      throw this.#reads.find(id) === undefined ? unknownOperation(id) : notCancellable(id)
    if (entry.result !== undefined) return entry.result.outcome
    const begun = entry.attempts > 0 && entry.state !== 'undoing'
    if (begun && this.#verbs.find(entry.claims.verb)?.cancellable !== true) throw notCancellable(id)
    this.#options.journal.cancel(id)
    await this.#options.journal.durable()
    this.#logOf(entry).info({}, 'operation is cancelled')
    this.#turns.abort(id, cancelled)
    return 'cancelling'
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
    this.#local.leave()
    const over = new AbortController()
    const ended = Promise.allSettled([...this.#operations, this.#reads.ended()])
    const late = this.#options.clock.sleep(graceMs, over.signal).catch(() => undefined)
    await Promise.race([ended, late])
    over.abort()
  }

  /** One command id at a time, so that a command that is sent twice at once is taken once. */
  async #answer(command: SignedCommand, entered: Promise<AsyncDisposable>, refuse?: Refuse): Promise<void> {
    const { id } = command.claims
    try {
      await using turn = await entered
      await using _held = await this.#receiving.acquire(id, this.#stopping.signal)
      if (await this.#repeated(command)) return
      await this.#refused.guard(command, () => this.#take(command, turn))
    } catch (error) {
      await this.#refuse(command, nothingHappened(error), refuse)
    }
  }

  async #repeated({ claims, digest }: SignedCommand): Promise<boolean> {
    const known = this.#options.journal.find(claims.id) ?? this.#reads.find(claims.id)
    if (known === undefined) return false
    if (known.digest !== digest) throw otherCommand(claims.id)
    await this.#options.journal.durable()
    if (!this.#reads.isRunning(claims.id))
      this.#options.emit({ type: 'ack', command: claims.id, repeated: true })
    if (known.result !== undefined) this.#options.emit({ type: 'result', result: known.result })
    return true
  }

  /** What is recorded ends the turn: commands of one VM wait for the disk together. */
  async #take(command: SignedCommand, turn: AsyncDisposable): Promise<void> {
    const { claims, digest } = command
    this.#options.verifier.checkTime(claims)
    const prepared = this.#verbs.prepare(claims)
    const { verb, params } = prepared
    checkSubject(verb, claims, params)
    this.#drain.check(verb)
    const pass = await this.#gate.check(command, params)
    await passing(pass, async () => {
      const accepted = { kind: 'accepted', command, approvers: pass?.approvers ?? [] } as const
      if (verb.looks)
        return await this.#reads.begin({ claims, digest, verb, params }, () =>
          this.#trail.note({ ...accepted, looks: true })
        )
      await this.#record(claims, digest, prepared, () => this.#trail.note(accepted))
      await turn[Symbol.asyncDispose]()
    })
    if (verb.looks) return
    // What is recorded by now may be carried out by the next start, whatever the disk answers: it counts.
    await this.#options.journal.durable()
    this.#options.emit({ type: 'ack', command: claims.id, repeated: false })
  }

  /**
   * Records and begins. Before the disk has it nothing is promised; the first step waits for that as well. `note` writes it
   * down where it is about to be recorded: of what is refused the trail keeps no more than a flood may fill.
   */
  async #record(
    claims: CommandClaims,
    digest: string,
    prepared: PreparedCommand<Host>,
    note: () => Promise<void>
  ): Promise<JournalEntry> {
    // Once more: a drain that began meanwhile may have seen nothing of this one.
    this.#drain.check(prepared.verb)
    const local = digest === localDigest
    const ticket = this.#lanes.enter(prepared.verb, { local })
    try {
      await this.#admission.check(prepared, claims, { local })
      await note()
      const entry = this.#options.journal.accept(claims, digest, local ? 'schedule' : 'command')
      this.#local.add(entry)
      this.#logOf(entry).info({ origin: entry.origin }, 'command accepted')
      this.#own(this.#run({ ...prepared, entry, ticket }))
      return entry
    } catch (error) {
      ticket[Symbol.dispose]()
      throw error
    }
  }

  #resumeOne(entry: JournalEntry): void {
    const log = this.#logOf(entry)
    this.#local.add(entry)
    try {
      const prepared = this.#verbs.prepare(entry.claims)
      const ticket = this.#lanes.enter(prepared.verb, { local: entry.origin !== 'command', always: true })
      log.info({ state: entry.state, step: entry.step, attempts: entry.attempts }, 'operation resumed')
      this.#own(this.#run({ ...prepared, entry, ticket }))
    } catch (error) {
      log.error({ error }, 'operation cannot be resumed by this version')
      this.#own(this.#endings.record(entry, { outcome: 'failed', error: asHostletError(error).toReport() }))
    }
  }

  async #run(work: Work<Host>): Promise<void> {
    const { entry, verb, params, ticket } = work
    using _place = ticket
    using turn = this.#turns.enter({ id: entry.id, verb, claims: entry.claims, params })
    if (entry.cancelled) this.#turns.abort(entry.id, cancelled)
    await using held = await this.#turnOf(work, turn)
    if (held !== undefined) return await this.#carryOut(work, turn.cancel)
    this.#logOf(entry).info({}, 'operation cancelled before it began')
    await this.#endings.record(entry, { outcome: 'failed', error: neverBegun.toReport() })
  }

  /** Its locks, once it has a place too. Undefined when it was cancelled before it had ever begun. */
  async #turnOf({ entry, verb, ticket }: Work<Host>, turn: Turn): Promise<AsyncDisposable | undefined> {
    const { signal: stop } = this.#stopping
    // What was begun before a restart has to have its turn, to be undone.
    const signal = entry.attempts > 0 ? stop : AbortSignal.any([stop, turn.cancel])
    const endOthers = verb.backups === 'end' ? (id: string) => this.#cutShort(id, entry) : undefined
    try {
      return await this.#turns.take(turn, ticket, { signal, endOthers })
    } catch (error) {
      if (stop.aborted || !signal.aborted) throw error
      return undefined
    }
  }

  /** A backup of a VM that is being removed. */
  #cutShort(id: string, { claims }: JournalEntry): void {
    const entry = this.#options.journal.find(id)
    if (entry === undefined) return
    const log = this.#logOf(entry)
    log.info({ by: claims.verb }, 'operation is cancelled')
    try {
      this.#options.journal.cancel(id)
    } catch (error) {
      log.warn(
        { error },
        'cancellation could not be recorded: an agent that is killed now takes the operation up again'
      )
    }
    const text = `${claims.verb} of VM ${claims.subject?.vm} ended the operation, and what it had begun was undone`
    this.#turns.abort(id, new HostletError('E_CANCELLED', text))
  }

  async #carryOut({ entry, verb, params }: Work<Host>, cancel: AbortSignal): Promise<void> {
    const { signal: stop } = this.#stopping
    const log = this.#logOf(entry)
    // The scheduler knows nothing of what the agent does by itself, until it is told how that ended.
    const tell = entry.origin === 'command' ? progressMessage(entry.id, this.#options) : () => undefined
    const noted = notedProgress(entry.id, this.#turns, tell)
    const startedAt = this.#options.clock.monotonic()
    const outcome = await this.#engine.run({ entry, verb, params, log, stop, cancel, ...noted })
    if (outcome === undefined) return log.info({}, 'operation interrupted by the stop of the agent')
    await this.#endings.record(entry, this.#verbs.checkOutcome(verb, outcome))
    const durationMs = Math.round(this.#options.clock.monotonic() - startedAt)
    if (outcome.outcome === 'failed' && outcome.error.details?.undoFailed !== undefined) this.#leftovers++
    if (outcome.outcome === 'done') log.info({ durationMs }, 'operation done')
    else log.warn({ durationMs, error: outcome.error }, 'operation failed')
    if (verb.changes) this.#options.onChanged?.()
  }

  /** The owner of an operation's promise. What escapes is the journal failing, or the agent stopping. */
  #own(operation: Promise<void>): void {
    const owned = operation
      .catch((error) => {
        if (!this.#stopping.signal.aborted)
          this.#options.log.error({ error }, 'operation left unfinished, the next start resumes it')
      })
      .finally(() => {
        this.#operations.delete(owned)
        this.#drain.noteChange()
      })
    this.#operations.add(owned)
  }

  async #refuse(command: SignedCommand | undefined, thrown: unknown, refuse?: Refuse): Promise<void> {
    const error = asHostletError(thrown)
    const claims = command?.claims
    const fields = { command: claims?.id, verb: claims?.verb, vm: claims?.subject?.vm, error }
    if (error.code === 'E_INTERNAL') this.#options.log.error(fields, 'command refused')
    else this.#options.log.warn(fields, 'command refused')
    // It may be recorded, and nobody knows: only an agent that has read what the disk has can answer.
    if (this.#options.journal.fault !== undefined) return
    const report = boundedReport(error.toReport())
    await this.#trail.note({ kind: 'refused', command, error: report }).catch((fault) => {
      this.#options.log.error({ error: fault }, 'refusal could not be written down')
    })
    const tell = refuse ?? this.#options.emit.bind(this.#options)
    tell({ type: 'refusal', ...(claims && { command: claims.id }), error: report })
  }

  #logOf({ id, claims }: JournalEntry): Logger {
    return this.#options.log.child({ command: id, verb: claims.verb, vm: claims.subject?.vm })
  }
}
