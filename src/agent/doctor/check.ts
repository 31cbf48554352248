// What a check of "hostlet doctor" is: a name, and a verdict over facts that were gathered before.

import type { DoctorFacts } from './facts.ts'

export const statuses = ['ok', 'warning', 'failed', 'skipped'] as const
export type Status = (typeof statuses)[number]

export interface Verdict {
  readonly status: Status
  /** What is there, in one line. */
  readonly message: string
  /** What to do. With `warning` and `failed` always. */
  readonly fix?: string
  /** The fix as a command of root's, where one does it without a thought. */
  readonly command?: string
}

/** In words; or a command that does it, with what else there is to say. */
export type Fix = string | { readonly run: string; readonly note?: string }

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
  return { status: 'ok', message }
}

export function warn(message: string, fix: Fix): Verdict {
  return { status: 'warning', message, ...fixed(fix) }
}

export function fail(message: string, fix: Fix): Verdict {
  return { status: 'failed', message, ...fixed(fix) }
}

export function skip(message: string): Verdict {
  return { status: 'skipped', message }
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

function fixed(fix: Fix): { fix: string; command?: string } {
  if (typeof fix === 'string') return { fix }
  const { run, note } = fix
  return { fix: note === undefined ? run : `${run}: ${note}`, command: run }
}
