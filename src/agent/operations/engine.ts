// Carries out one journaled operation: step by step forward, or back again, and on from where it was after a crash.

import { asHostletError, type ErrorReport, HostletError } from '../../errors.ts'
import { Backoff } from '../../lib/backoff.ts'
import type { Clock } from '../../lib/clock.ts'
import { type Deadline, startDeadline, untilAborted } from '../../lib/deadline.ts'
import type { Logger } from '../../lib/log.ts'
import type { Journal, JournalEntry } from './journal.ts'
import type { Operation, OtherOperations, Outcome, ProgressUpdate, Step, StepNotes, Verb } from './verb.ts'

/** An operation that was begun so often is what stops the agent: it is undone instead of resumed once more. */
export const attemptsMax = 5
/** Tries of one step while the hypervisor comes and goes, within the operation's deadline. */
export const stepTriesMax = 5
/** Tries and time of one undo. Longer than a restart of libvirtd, because what is not undone leaks. */
export const undoTriesMax = 8
export const undoDeadlineMs = 300_000

/** Between tries to write to the journal, while the disk refuses. */
export const recordRetryMs = 5_000

/** How long work that was aborted may take to notice. */
export const abandonAfterMs = 10_000
/** Time for what follows a step from which there is no way back, unless the verb says otherwise. */
export const restDeadlineMs = 300_000

/** Why operations are aborted when the agent stops. They are left as they are and resumed by the next start. */
export const agentStops = new HostletError(
  'E_INTERRUPTED',
  'the agent stops; the operation goes on when it is back'
)

/** Why an operation is aborted when somebody asks for it. */
export const cancelled = new HostletError(
  'E_CANCELLED',
  'the operation was cancelled, and what it had begun was undone'
)

/** Why an operation did not even begin. */
export const neverBegun = new HostletError(
  'E_CANCELLED',
  'the operation was cancelled before it began: nothing happened'
)

/** What the engine asks of the world while it waits. */
export interface HostReadiness {
  isReady(): boolean
  /** Resolves once the hypervisor answers; rejects with the signal's reason. */
  untilReady(signal: AbortSignal): Promise<void>
}

export interface StepReport extends ProgressUpdate {
  readonly step: string
  readonly stepIndex: number
  readonly steps: number
}

export interface Execution<Host> {
  readonly entry: JournalEntry
  readonly verb: Verb<Host>
  /** Arguments that fit the verb's schema. */
  readonly params: unknown
  readonly log: Logger
  /** Aborted with `agentStops` only. */
  readonly stop: AbortSignal
  /** Aborted with `cancelled` when somebody asks for it. */
  readonly cancel?: AbortSignal
  onProgress(report: StepReport): void
  /** A step was interrupted and is tried again. */
  onTrouble?(error: unknown, tries: number): void
}

export interface EngineOptions<Host> {
  readonly host: Host
  readonly journal: Pick<Journal, 'begin' | 'checkpoint' | 'turnBack' | 'durable'>
  readonly clock: Clock
  readonly readiness: HostReadiness
  readonly others?: OtherOperations
  readonly random?: () => number
}

export class Engine<Host> {
  readonly #options: EngineOptions<Host>

  constructor(options: EngineOptions<Host>) {
    this.#options = options
  }

  /**
   * Runs to the end and tells how it ended. Undefined when the agent stopped meanwhile: then the journal says where to go
   * on. What a verb throws becomes the outcome; only the journal's own errors are thrown.
   */
  async run(execution: Execution<Host>): Promise<Outcome | undefined> {
    const run = new Run(this.#options, execution)
    try {
      return await run.toTheEnd()
    } catch (error) {
      if (execution.stop.aborted) return undefined
      throw error
    }
  }
}

class Run<Host> {
  readonly #options: EngineOptions<Host>
  readonly #execution: Execution<Host>
  readonly #steps: readonly Step[]
  readonly #readiness: HostReadiness
  #index: number
  #notes: StepNotes

  constructor(options: EngineOptions<Host>, execution: Execution<Host>) {
    this.#options = options
    this.#execution = execution
    // What has no lock touches no VM.
    this.#readiness = execution.verb.lock === 'none' ? atOnce : options.readiness
    this.#steps = execution.verb.steps(execution.params, options.host)
    this.#index = execution.entry.step
    this.#notes = { ...execution.entry.notes }
  }

  async toTheEnd(): Promise<Outcome | undefined> {
    const { entry, verb } = this.#execution
    if (entry.failure !== undefined) return await this.#back(entry.failure)
    const again = entry.attempts > 0
    if (!again && this.#isCancelled()) return { outcome: 'failed', error: neverBegun.toReport() }
    await this.#recorded(() => this.#options.journal.begin(entry.id))
    if (this.#isDecided()) return await this.#forward()
    if (this.#isCancelled()) return await this.#turnBack(cancelled)
    if (again && (verb.afterCrash === 'rollback' || entry.attempts >= attemptsMax))
      return await this.#turnBack(interrupted(entry.attempts))
    return await this.#forward()
  }

  async #forward(): Promise<Outcome | undefined> {
    const { verb, params, stop } = this.#execution
    using limits = new DisposableStack()
    let { signal } = limits.use(this.#limit())
    try {
      while (this.#index < this.#steps.length) {
        const { final } = await this.#apply(signal)
        if (final) signal = limits.use(this.#limit()).signal
      }
      // All is done, and only looked at: an answer that does not come is no reason to undo it.
      const value = await this.#retrying(
        signal,
        () => verb.outcome(params, this.#options.host, this.#operation(signal, this.#steps.length - 1)),
        { again: mayPass }
      )
      return { outcome: 'done', value: value as Record<string, unknown> }
    } catch (error) {
      if (stop.aborted) return undefined
      return await this.#turnBack(reasonOf(error, signal))
    }
  }

  /** The deadline of the verb, which a cancellation cuts short; that of the rest, once there is no way back. */
  #limit(): Deadline {
    const { clock } = this.#options
    const { verb, params, stop, cancel } = this.#execution
    if (this.#isDecided()) {
      const ms = verb.rest?.deadline?.(params) ?? restDeadlineMs
      return startDeadline({ clock, ms, what: `the rest of ${verb.name}`, signal: stop })
    }
    const ms = verb.deadline?.(params) ?? verb.deadlineMs
    const signal = cancel === undefined ? stop : AbortSignal.any([stop, cancel])
    return startDeadline({ clock, ms, what: verb.name, signal })
  }

  async #apply(signal: AbortSignal): Promise<Step> {
    const step = this.#stepAt(this.#index)
    this.#report({})
    // That the step before is done, also after the loss of power.
    await this.#options.journal.durable()
    const { log, entry } = this.#execution
    const startedAt = this.#options.clock.monotonic()
    const left = await this.#retrying(
      signal,
      async () => await step.apply(this.#operation(signal, this.#index)),
      { final: step.final, ...(step.patient && entry.attempts > 0 && { again: mayPass }) }
    )
    this.#notes = { ...this.#notes, ...(left ?? {}) }
    this.#options.journal.checkpoint(entry.id, this.#index + 1, this.#notes)
    const durationMs = Math.round(this.#options.clock.monotonic() - startedAt)
    log.debug({ step: step.name, durationMs }, 'step done')
    this.#index++
    return step
  }

  /** Steps are safe to repeat: one that the hypervisor interrupted by going away is tried again once it is back. */
  async #retrying<Value>(
    signal: AbortSignal,
    work: () => Promise<Value>,
    { final, again = (error) => this.#hypervisorWent(error) }: Tries = {}
  ): Promise<Value | undefined> {
    const { clock, random } = this.#options
    const readiness = this.#readiness
    const backoff = new Backoff({ baseMs: 500, capMs: 10_000, ...(random && { random }) })
    for (let tries = 1; ; tries++) {
      await readiness.untilReady(signal)
      try {
        return await this.#settled(work(), signal, final)
      } catch (error) {
        if (signal.aborted || tries >= stepTriesMax || !again(error)) throw error
        this.#execution.log.warn({ error, tries }, 'step interrupted, trying again')
        this.#execution.onTrouble?.(error, tries)
        await clock.sleep(backoff.nextMs(), signal)
      }
    }
  }

  /**
   * The work's end. Once aborted it has a while to end by itself, so that its undo does not run beside it; work from which
   * there is no way back counts if it comes to its end meanwhile.
   */
  async #settled<Value>(
    work: Promise<Value> | undefined,
    signal: AbortSignal,
    final?: true
  ): Promise<Value | undefined> {
    if (work === undefined) return undefined
    try {
      return await untilAborted(work, signal)
    } catch (error) {
      if (!signal.aborted) throw error
      const over = new AbortController()
      const late = this.#options.clock.sleep(abandonAfterMs, over.signal).then(noop, noop)
      const end = await Promise.race([work.then((value) => ({ value }), noop), late])
      over.abort()
      if (final && end !== undefined) return end.value
      throw signal.reason
    }
  }

  #hypervisorWent(error: unknown): boolean {
    const { code } = asHostletError(error)
    return code === 'E_INTERRUPTED' || (code === 'E_UNAVAILABLE' && !this.#readiness.isReady())
  }

  #isCancelled(): boolean {
    const { entry, cancel } = this.#execution
    return entry.cancelled || cancel?.aborted === true
  }

  #isDecided(): boolean {
    return this.#steps.slice(0, this.#index).some(({ final }) => final)
  }

  async #turnBack(error: HostletError): Promise<Outcome | undefined> {
    const { entry, log } = this.#execution
    // Why is told once, at the end: see the dispatcher.
    const fields = { code: error.code, step: this.#steps[this.#index]?.name }
    log.info(fields, this.#isDecided() ? 'the rest of the operation failed' : 'undoing operation')
    const failure = error.toReport()
    await this.#recorded(() => this.#options.journal.turnBack(entry.id, failure))
    return await this.#back(failure)
  }

  /** However long the disk refuses: an operation that were dropped here would come back after newer ones of its VM. */
  async #recorded(write: () => void): Promise<void> {
    const { clock } = this.#options
    const { log, stop } = this.#execution
    for (;;) {
      try {
        write()
        return await this.#options.journal.durable()
      } catch (error) {
        log.error({ error }, 'journal could not be written, trying again')
        await clock.sleep(recordRetryMs, stop)
      }
    }
  }

  /** All undos run, the newest first, from the step that was under way, whatever happens to any of them. */
  async #back(failure: ErrorReport): Promise<Outcome | undefined> {
    const { rest } = this.#execution.verb
    if (this.#isDecided()) return { outcome: 'failed', error: carriedOut(failure, rest?.failure) }
    const last = Math.min(this.#index, this.#steps.length - 1)
    const failed: string[] = []
    for (let index = last; index >= 0; index--) {
      const step = this.#stepAt(index)
      if (step.undo !== undefined && !(await this.#undo(step, index))) failed.push(step.name)
      if (this.#execution.stop.aborted) return undefined
    }
    return { outcome: 'failed', error: withLeftovers(failure, failed) }
  }

  async #undo(step: Step, index: number): Promise<boolean> {
    const { clock, readiness, random } = this.#options
    const { stop, log } = this.#execution
    using deadline = startDeadline({ clock, ms: undoDeadlineMs, what: `undo of ${step.name}`, signal: stop })
    const backoff = new Backoff({ baseMs: 500, capMs: 30_000, ...(random && { random }) })
    for (let tries = 1; ; tries++) {
      try {
        await readiness.untilReady(deadline.signal)
        await untilAborted(
          Promise.resolve(step.undo?.(this.#operation(deadline.signal, index))),
          deadline.signal
        )
        return true
      } catch (error) {
        const over = deadline.signal.aborted || tries >= undoTriesMax
        if (over || !mayPass(error)) {
          if (!stop.aborted) log.error({ error, step: step.name }, 'undo failed')
          return false
        }
        await clock.sleep(backoff.nextMs(), deadline.signal).catch(() => undefined)
      }
    }
  }

  #operation(signal: AbortSignal, index: number): Operation {
    const { entry, log } = this.#execution
    const { others } = this.#options
    return {
      id: entry.id,
      verb: entry.claims.verb,
      subject: entry.claims.subject,
      signal,
      log: log.child({ step: this.#steps[index]?.name }),
      notes: this.#notes,
      progress: (update) => this.#report(update),
      ...(others && { others })
    }
  }

  #report(update: ProgressUpdate): void {
    const step = this.#steps[this.#index]
    if (step === undefined) return
    this.#execution.onProgress({
      step: step.name,
      stepIndex: this.#index,
      steps: this.#steps.length,
      ...update
    })
  }

  #stepAt(index: number): Step {
    const step = this.#steps[index]
    if (step === undefined)
      throw new HostletError('E_INTERNAL', `${this.#execution.verb.name} has no step ${index}`)
    return step
  }
}

/** Whoever touches no VM, or asks how things are, does not wait for the hypervisor. */
export const atOnce: HostReadiness = { isReady: () => true, untilReady: () => Promise.resolve() }

function noop(): undefined {
  return undefined
}

function interrupted(attempts: number): HostletError {
  return new HostletError(
    'E_INTERRUPTED',
    `the agent stopped in the middle of the operation (${attempts} times); what it had begun was undone. Ask anew.`,
    { details: { attempts } }
  )
}

/** A wait that the deadline cut short tells of the deadline, not of how the wait took it. */
function reasonOf(error: unknown, signal: AbortSignal): HostletError {
  return asHostletError(signal.aborted ? signal.reason : error)
}

/** Whether another try of the same undo may end otherwise. */
interface Tries {
  readonly final?: true | undefined
  /** Whether another try may help; by default where the hypervisor went away. */
  again?(error: unknown): boolean
}

function mayPass(error: unknown): boolean {
  const { advice } = asHostletError(error)
  return advice === 'retry' || advice === 'look'
}

function carriedOut(
  failure: ErrorReport,
  what = 'What was asked for is done and stays; what follows it is not:'
): ErrorReport {
  const text = `${what} ${failure.message}`
  return { ...failure, message: text.slice(0, 4_096) }
}

function withLeftovers(failure: ErrorReport, failed: readonly string[]): ErrorReport {
  if (failed.length === 0) return failure
  const steps = failed.join(', ')
  return {
    ...failure,
    message:
      `${failure.message} Not everything could be undone (${steps}): look at what there is of the VM, and tear it down if it is not to stay.`.slice(
        0,
        4_096
      ),
    details: { ...failure.details, undoFailed: steps.slice(0, 4_096) }
  }
}
