// Which conditions hold, since when; each is logged when it begins and when it ends.

import type { Logger } from '../../lib/log.ts'
import type { Condition } from '../../protocol/messages.ts'
import { type ConditionRule, conditionRules, type HealthFacts } from './conditions.ts'

const messageCharactersMax = 4_096

export class HealthTracker {
  readonly #log: Logger
  readonly #rules: readonly ConditionRule[]
  readonly #conditions = new Map<string, Condition>()

  constructor({ log, rules = conditionRules }: { log: Logger; rules?: readonly ConditionRule[] }) {
    this.#log = log
    this.#rules = rules
  }

  /** Looks at the facts anew and returns what holds now. */
  update(facts: HealthFacts): Condition[] {
    for (const rule of this.#rules) this.#apply(rule, facts)
    return [...this.#conditions.values()]
  }

  #apply({ id, holds }: ConditionRule, facts: HealthFacts): void {
    const found = holds(facts)
    const before = this.#conditions.get(id)
    if (found === undefined) {
      if (this.#conditions.delete(id)) this.#log.info({ condition: id }, 'condition ended')
      return
    }
    const message = found.message.slice(0, messageCharactersMax)
    this.#conditions.set(id, { id, severity: found.severity, message, since: before?.since ?? facts.now })
    if (before?.severity === found.severity) return
    const level = found.severity === 'critical' ? 'error' : 'warn'
    this.#log[level]({ condition: id, severity: found.severity, reason: message }, 'condition raised')
  }
}
