// What one probe has found so far: one failure is no illness, and one answer after many no recovery.

import type { ProbeHealth } from '../../protocol/vm.ts'

/** Failures in a row that make a service unhealthy. */
export const failuresMax = 3
/** Answers in a row that make an unhealthy one healthy again; the first one of all does at once. */
export const answersMin = 2

type Health = Pick<ProbeHealth, 'state' | 'since'>

export class ProbeState {
  #health: Health
  #failures = 0
  #answers = 0

  constructor(since: number) {
    this.#health = { state: 'unknown', since }
  }

  get health(): Health {
    return this.#health
  }

  /** Takes the result of a try. True when it changed the state. */
  note(answers: boolean, at: number): boolean {
    this.#answers = answers ? this.#answers + 1 : 0
    this.#failures = answers ? 0 : this.#failures + 1
    const { state } = this.#health
    if (answers && (state === 'unknown' || this.#answers >= answersMin)) return this.#become('healthy', at)
    if (this.#failures >= failuresMax) return this.#become('unhealthy', at)
    return false
  }

  /** The machine is off: nobody can know. True when it changed the state. */
  stop(at: number): boolean {
    this.#failures = 0
    this.#answers = 0
    return this.#become('unknown', at)
  }

  #become(state: Health['state'], since: number): boolean {
    if (this.#health.state === state) return false
    this.#health = { state, since }
    return true
  }
}
