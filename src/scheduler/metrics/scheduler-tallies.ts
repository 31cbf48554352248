// What the scheduler counts as it goes: requests of its API, failed logins, operations that ended.

import { Tally, Timings } from '../../lib/tallies.ts'
import { schedulerMetrics } from './declarations.ts'

const requestBounds = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 60]
const operationBounds = [0.5, 1, 2, 5, 10, 30, 60, 300, 900, 3_600, 14_400]
/** There from the start, so that the first failure is growth. */
const loginReasons = [
  ...([
    'missing-key',
    'unknown-key',
    'expired-key',
    'low-tier',
    'code-needed',
    'wrong-code',
    'used-code'
  ] as const),
  ...(['locked', 'ended-session', 'other'] as const)
]

export class SchedulerTallies {
  readonly #requests = new Tally(schedulerMetrics.requests)
  readonly #durations = new Timings(schedulerMetrics.requestDuration, requestBounds)
  readonly #failedLogins = new Tally(
    schedulerMetrics.failedLogins,
    loginReasons.map((reason) => ({ reason }))
  )
  readonly #ended = new Tally(schedulerMetrics.operationsEnded)
  readonly #operations = new Timings(schedulerMetrics.operationDuration, operationBounds)

  /** `route` as it is declared, never as it was asked for. */
  request(method: string, route: string, answer: { status: number; seconds: number }): void {
    this.#requests.add({ method, route, status: String(answer.status) })
    this.#durations.observe({ method, route }, answer.seconds)
  }

  /** `reason` is a word of ours. */
  failedLogin(reason: unknown): void {
    this.#failedLogins.add({ reason: typeof reason === 'string' ? reason : 'other' })
  }

  operationEnded(verb: string, outcome: string, seconds: number): void {
    this.#ended.add({ verb, outcome })
    this.#operations.observe({ verb }, Math.max(0, seconds))
  }

  text(): string {
    return [this.#requests, this.#durations, this.#failedLogins, this.#ended, this.#operations]
      .map((tally) => tally.text())
      .join('')
  }
}
