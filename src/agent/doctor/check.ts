// What a check of "hostlet doctor" is: a name, and a verdict over facts that were gathered before.

import type { DoctorFacts } from './facts.ts'

export const statuses = ['pass', 'warn', 'fail', 'skip'] as const
export type Status = (typeof statuses)[number]

export interface Verdict {
  readonly status: Status
  /** What is there, in one line. */
  readonly message: string
  /** What to do. With `warn` and `fail` always. */
  readonly fix?: string
}

export interface Check {
  /** Stable: what scripts may look for. */
  readonly id: string
  /** What is looked at, as a few words. */
  readonly title: string
  judge(facts: DoctorFacts): Verdict
}

/** A fact that was read, or why it could not be. */
export type Reading<Value> = { readonly value: Value } | { readonly unreadable: string }

export function pass(message: string): Verdict {
  return { status: 'pass', message }
}

export function warn(message: string, fix: string): Verdict {
  return { status: 'warn', message, fix }
}

export function fail(message: string, fix: string): Verdict {
  return { status: 'fail', message, fix }
}

export function skip(message: string): Verdict {
  return { status: 'skip', message }
}

/** The verdict over a fact; a fact that could not be read is skipped with the reason: nothing is guessed. */
export function over<Value>(reading: Reading<Value>, judge: (value: Value) => Verdict): Verdict {
  return 'value' in reading ? judge(reading.value) : skip(reading.unreadable)
}

export function both<First, Second>(
  first: Reading<First>,
  second: Reading<Second>,
  judge: (first: First, second: Second) => Verdict
): Verdict {
  return over(first, (one) => over(second, (other) => judge(one, other)))
}
