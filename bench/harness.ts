// What every figure is made of: two things run in turn in one process, as rows of ratios and measures with their targets.

import { ratioOfPairs, type Summary, summarize } from './statistics.ts'

export type Target = { readonly atMost: number } | { readonly atLeast: number }

/** Two things compared: the median over all pairs of `first / second`, where first and second are named in `compared`. */
export interface RatioRow {
  readonly kind: 'ratio'
  readonly what: string
  readonly compared: readonly [first: string, second: string]
  readonly ratio: Summary
  /** What was measured of each, for the reader; machines differ, so only the ratio has a target. */
  readonly samples: readonly [first: Summary, second: Summary]
  readonly unit: string
  readonly target?: Target
}

/** A figure that has no peer, such as the longest block of the event loop. */
export interface MeasureRow {
  readonly kind: 'measure'
  readonly what: string
  readonly measure: Summary
  readonly unit: string
  readonly target?: Target
}

export type Row = RatioRow | MeasureRow

export interface FigureResult {
  readonly rows: readonly Row[]
  /** What a reader has to know to judge or repeat the figure. */
  readonly how: readonly string[]
}

export interface Figure {
  readonly id: string
  readonly title: string
  /** Throws NotRun where this machine lacks what the figure needs. */
  run(options: RunOptions): Promise<FigureResult>
}

export interface RunOptions {
  /** Fewer repetitions, to try the bench itself; such results are marked and never written to the docs. */
  readonly quick: boolean
  log(line: string): void
}

/** The figure cannot be measured here; the message says what is missing. */
export class NotRun extends Error {
  override readonly name = 'NotRun'
}

export type Contender = () => number | Promise<number>

export interface Race {
  readonly ours: Contender
  readonly peer: Contender
  readonly pairs: number
  readonly warmUps: number
}

/**
 * Runs both in turn, after warm-ups that do not count, and returns what each run reported. Who goes first changes from pair
 * to pair, so that neither always meets the garbage or the caches of the other.
 */
export async function interleave({ ours, peer, pairs, warmUps }: Race): Promise<{
  ours: number[]
  peer: number[]
}> {
  const samples = { ours: [] as number[], peer: [] as number[] }
  for (let turn = -warmUps; turn < pairs; turn++) {
    const order = turn >= 0 && turn % 2 === 1 ? (['peer', 'ours'] as const) : (['ours', 'peer'] as const)
    for (const who of order) {
      const sample = await (who === 'ours' ? ours : peer)()
      if (turn >= 0) samples[who].push(sample)
    }
  }
  return samples
}

interface RatioInput {
  readonly what: string
  readonly first: readonly [name: string, samples: readonly number[]]
  readonly second: readonly [name: string, samples: readonly number[]]
  readonly unit: string
  readonly target?: Target
}

export function ratioRow({ what, first, second, unit, target }: RatioInput): RatioRow {
  return {
    kind: 'ratio',
    what,
    compared: [first[0], second[0]],
    ratio: ratioOfPairs(first[1], second[1]),
    samples: [summarize(first[1]), summarize(second[1])],
    unit,
    ...(target && { target })
  }
}

interface MeasureInput {
  readonly what: string
  readonly samples: readonly number[]
  readonly unit: string
  readonly target?: Target
}

export function measureRow({ what, samples, unit, target }: MeasureInput): MeasureRow {
  return { kind: 'measure', what, measure: summarize(samples), unit, ...(target && { target }) }
}

export function met(target: Target, value: number): boolean {
  return 'atMost' in target ? value <= target.atMost : value >= target.atLeast
}

/** Milliseconds that the work took. */
export async function timeMs(work: () => unknown): Promise<number> {
  const start = performance.now()
  await work()
  return performance.now() - start
}
