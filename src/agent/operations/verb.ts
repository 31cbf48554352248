// What a verb is: its schema, its lock, and the ordered steps that carry it out. Everything else happens in the dispatcher.

import type { ErrorReport } from '../../errors.ts'
import type { Logger } from '../../lib/log.ts'
import type { Static, TSchema } from '../../lib/schema.ts'
import type { TransferProgress } from '../../protocol/backup.ts'
import type { CommandSubject } from '../../protocol/command.ts'
import type { Foreseen, Plan, PlanParams } from '../../protocol/plan.ts'

/** JSON values that a step leaves behind for later steps, and for the same step after a crash. */
export type StepNotes = Record<string, unknown>

/** How far a step is: 0 to 1 where known, a word about it, and the bytes where it moves some. */
export interface ProgressUpdate {
  readonly ratio?: number
  readonly note?: string
  readonly transfer?: TransferProgress
}

/** How an operation stands that was to be cancelled: it is being undone, or it had ended before. */
export const cancellationStates = ['cancelling', 'done', 'failed'] as const
export type CancellationState = (typeof cancellationStates)[number]

/** What one operation may ask about the others. */
export interface OtherOperations {
  /**
   * Durable when it resolves: also an agent that is killed now will not carry the operation out. Throws E_NOT_FOUND for one
   * that is not known here, E_UNSUPPORTED for one under way that cannot be cut short.
   */
  cancel(id: string, signal: AbortSignal): Promise<CancellationState>
  /** Absent in tests that know of no draining. */
  readonly drain?: DrainPort
  /** What another command would do. Changes nothing. Throws E_UNSUPPORTED and E_BAD_REQUEST as that command would. */
  plan?(asked: PlanParams, operation: Operation): Promise<Plan>
}

/** A host that is being emptied of work: its VMs run on. */
export interface DrainPort {
  /** From now on only what is urgent, and what looks, is taken; durable when it resolves. Returns since when, in ms since the epoch. */
  begin(): Promise<number>
  /** Resolves when nothing runs or waits any more, or when it is over by `end`; true for the former. */
  untilIdle(signal: AbortSignal, onWaiting: (operations: number) => void): Promise<boolean>
  /** Takes work again; durable when it resolves. False when it did before. */
  end(): Promise<boolean>
}

/** What a step may use while it runs. One per operation; it survives a crash except for its signal. */
export interface Operation {
  readonly id: string
  readonly verb: string
  readonly subject: CommandSubject | undefined
  /** Aborted at the verb's deadline and when the agent stops. Every wait takes it. */
  readonly signal: AbortSignal
  readonly log: Logger
  /** Notes of the steps that have been applied, merged in order; durable since their checkpoint. */
  readonly notes: Readonly<StepNotes>
  /** May be called often, is sent seldom. */
  progress(update: ProgressUpdate): void
  /** Absent where nothing but this operation is known: in checks and in tests. */
  readonly others?: OtherOperations
}

/**
 * One line of the runbook. `apply` is safe to repeat, because after a crash it runs again; it may return notes, which are
 * journaled with its checkpoint. `undo` is safe where `apply` never ran or ran halfway; it sees the notes so far.
 */
export interface Step {
  readonly name: string
  apply(operation: Operation): Promise<StepNotes | undefined> | Promise<void>
  undo?(operation: Operation): Promise<void>
  /**
   * There is no way back once it is done: neither a cancellation nor the deadline ends the operation any more, steps that
   * follow are carried out, and nothing is undone. So nobody is told of a failure whose effect is there.
   */
  readonly final?: true
  /**
   * An earlier run may have done it all, and then nothing is undone: after a crash it is tried again after every fault that may
   * pass, not only where the hypervisor went away.
   */
  readonly patient?: true
  /** Has nothing to do with what was asked: a plan leaves it out. */
  readonly idle?: boolean
}

/** `work` is over soon; `transfer` moves many bytes, and has places of its own, so that it keeps nobody waiting for hours. */
export const lanes = ['work', 'transfer'] as const
export type Lane = (typeof lanes)[number]

/**
 * `urgent` is what stops, removes, cancels or drains: it has places of its own, so that ten provisions are not before it, and
 * is taken while the host is drained.
 */
export const priorities = ['normal', 'urgent'] as const

export const lockScopes = ['vm', 'backup', 'image', 'host', 'none'] as const
export const backupManners = ['wait', 'end'] as const
/** `resume` runs on from the last checkpoint after a crash; `rollback` undoes what was begun and reports E_INTERRUPTED. */
export const crashPolicies = ['resume', 'rollback'] as const

export interface Verb<Host, Params extends TSchema = TSchema, Result extends TSchema = TSchema> {
  readonly name: string
  /** One sentence for the documents and for help. */
  readonly summary: string
  /** `vm` serialises operations on one VM; `backup` its backups, beside which it may be stopped; `image` one digest; `host` the host as a whole; `none` keeps nobody waiting, and waits for nobody, not even for the hypervisor. */
  readonly lock: (typeof lockScopes)[number]
  /**
   * What becomes of backups of a VM that the verb makes, replaces or removes. None begins meanwhile; one that is under way
   * is waited for (`wait`) or cancelled (`end`). Absent: they go on beside it.
   */
  readonly backups?: (typeof backupManners)[number]
  /** True when it changes a VM: the command must carry a subject with a newer generation. */
  readonly changes: boolean
  /**
   * It has no effect whatever, so that it may come again: it is not journaled, and answered while the host is drained, and
   * under a policy that cannot be relied on. Everything else is journaled, so that it has its effect once.
   */
  readonly looks?: true
  readonly deadlineMs: number
  readonly afterCrash: (typeof crashPolicies)[number]
  /** `work` unless it says otherwise. */
  readonly lane?: Lane
  /** `normal` unless it says otherwise. On one VM the order of acceptance holds all the same. */
  readonly priority?: (typeof priorities)[number]
  /** True when it may be cancelled while it runs: it is undone then. Before it has begun every operation may be. */
  readonly cancellable?: boolean
  readonly params: Params
  readonly result: Result
  /** Longer deadline where the arguments ask for it, e.g. a readiness time-out. */
  deadline?(params: Static<Params>): number
  /**
   * Of what follows a step from which there is no way back: its own deadline where it may take long, and what is told before
   * the reason where it fails.
   */
  readonly rest?: { deadline?(params: Static<Params>): number; readonly failure?: string }
  /** Key within the lock scope when it is not the subject's VM: an image's digest, or what of the host it is about. */
  lockKey?(params: Static<Params>): string
  /** Refuses, before anything is journaled, what can be known to be impossible. Throws HostletError. */
  check?(params: Static<Params>, host: Host, operation: Operation): Promise<void>
  steps(params: Static<Params>, host: Host): readonly Step[]
  /** What it would change, told without changing anything; asked only where `check` refuses nothing. */
  plan?(params: Static<Params>, host: Host, operation: Operation): Promise<Foreseen>
  /** The result, from the notes and the state as it is now. */
  outcome(params: Static<Params>, host: Host, operation: Operation): Promise<Static<Result>>
}

/** Declares a verb with its types inferred from its schemas; `Host` is what its steps ask for. */
export function defineVerb<Host>() {
  return <Params extends TSchema, Result extends TSchema>(
    verb: Verb<Host, Params, Result>
  ): Verb<Host, Params, Result> => verb
}

/** How an operation ended. */
export type Outcome =
  | { readonly outcome: 'done'; readonly value: Record<string, unknown> }
  | { readonly outcome: 'failed'; readonly error: ErrorReport }
