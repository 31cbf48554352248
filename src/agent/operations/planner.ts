// What a command would do, without doing it: whether it would be taken, its steps, and what its verb foresees.

import { asHostletError, type ErrorReport } from '../../errors.ts'
import type { Clock } from '../../lib/clock.ts'
import type { CommandClaims, CommandSubject } from '../../protocol/command.ts'
import type { Foreseen, Plan, PlanParams, PolicyForecast } from '../../protocol/plan.ts'
import type { Drain } from './drain.ts'
import type { CommandGate } from './gate.ts'
import type { Journal } from './journal.ts'
import { boundedReport } from './result.ts'
import type { Operation, OtherOperations } from './verb.ts'
import { checkSubject, type PreparedCommand, type VerbTable } from './verb-table.ts'

/** Stands for the host in claims that nobody signs. */
const audience = 'self'

export interface PlannerOptions<Host> {
  readonly host: Host
  readonly verbs: VerbTable<Host>
  readonly drain: Pick<Drain, 'check'>
  readonly gate: CommandGate
  readonly journal: Pick<Journal, 'generationOf'>
  /** As in `DispatcherOptions`. */
  generationOf(subject: CommandSubject, signal: AbortSignal): Promise<number>
  readonly clock: Pick<Clock, 'now'>
}

export class Planner<Host> {
  readonly #options: PlannerOptions<Host>

  constructor(options: PlannerOptions<Host>) {
    this.#options = options
  }

  /** See `OtherOperations`. What would keep the command from being taken is part of the plan. */
  readonly plan: NonNullable<OtherOperations['plan']> = async (asked, operation) => {
    const { verbs, host } = this.#options
    const generation = await this.#generation(asked, operation.signal)
    const claims = this.#claims(asked, operation.id, generation?.next)
    const prepared = verbs.prepare(claims)
    const { verb, params } = prepared
    checkSubject(verb, claims, params)
    const { subject } = claims
    const inner: Operation = {
      ...{ id: operation.id, verb: verb.name, subject, notes: {}, progress: () => undefined },
      ...{ signal: operation.signal, log: operation.log }
    }
    const refusal = await this.#refusalOf(prepared, inner)
    return {
      verb: verb.name,
      ...(subject && { vm: subject.vm }),
      ...(generation && { generation }),
      steps: verb
        .steps(params, host)
        .filter(({ idle }) => idle !== true)
        .map(({ name }) => name),
      policy: await this.#policy(claims, params),
      ...(refusal === undefined ? await this.#foresee(prepared, inner) : { changes: false, refusal })
    }
  }

  /** The next generation after all that this host has seen: what the scheduler draws is at least that. */
  async #generation({ subject }: PlanParams, signal: AbortSignal): Promise<Plan['generation']> {
    if (subject === undefined) return undefined
    const { journal, generationOf } = this.#options
    const told = await generationOf({ ...subject, generation: 1 }, signal)
    const now = Math.max(told, journal.generationOf(subject.uuid) ?? 0)
    return { now, next: now + 1 }
  }

  #claims({ verb, arguments: given, subject }: PlanParams, id: string, next: number | undefined) {
    const issuedAt = this.#options.clock.now()
    const claims: CommandClaims = { id, verb, audience, issuedAt, expiresAt: issuedAt, arguments: given }
    return subject === undefined || next === undefined
      ? claims
      : { ...claims, subject: { ...subject, generation: next } }
  }

  async #refusalOf(
    { verb, params }: PreparedCommand<Host>,
    operation: Operation
  ): Promise<ErrorReport | undefined> {
    try {
      this.#options.drain.check(verb)
      await verb.check?.(params, this.#options.host, operation)
      return undefined
    } catch (error) {
      operation.signal.throwIfAborted()
      return boundedReport(asHostletError(error).toReport())
    }
  }

  async #policy(claims: CommandClaims, params: unknown): Promise<PolicyForecast> {
    return (await this.#options.gate.foresee?.(claims, params)) ?? { verdict: 'allowed' }
  }

  /** What a verb finds impossible only now, it would find then as well: with no room left, as a rule. */
  async #foresee(
    { verb, params }: PreparedCommand<Host>,
    operation: Operation
  ): Promise<Foreseen & { refusal?: ErrorReport }> {
    if (verb.plan === undefined) return { changes: verb.looks !== true }
    try {
      return await verb.plan(params, this.#options.host, operation)
    } catch (error) {
      operation.signal.throwIfAborted()
      return { changes: false, refusal: boundedReport(asHostletError(error).toReport()) }
    }
  }
}
