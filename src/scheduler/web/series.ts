// Samples over time as charts want them: columns, with a hole where nothing was heard. Nothing here knows a browser.

export interface Point<Sample> {
  readonly at: number
  readonly sample: Sample
}

/** Points of a picture, over whatever time. */
export const pointsWanted = 360

export const ranges = [
  { label: '15 min', ms: 900_000 },
  { label: '1 h', ms: 3_600_000 },
  { label: '6 h', ms: 21_600_000 },
  { label: '24 h', ms: 86_400_000 }
] as const

export function stepOf(rangeMs: number): number {
  return Math.round(rangeMs / pointsWanted)
}

/** Newer points in place of those of the spans that they belong to; what left the range goes. */
export function joined<Sample>(
  known: readonly Point<Sample>[],
  news: readonly Point<Sample>[],
  { since }: { since: number }
): readonly Point<Sample>[] {
  const from = news[0]?.at ?? Number.POSITIVE_INFINITY
  return [...known.filter(({ at }) => at >= since && at < from), ...news]
}

/** From when on to ask, so that the last span, which may not be over, comes again. */
export function newsSince(known: readonly Point<unknown>[], step: number): number | undefined {
  const last = known.at(-1)
  return last && Math.floor(last.at / step) * step
}

/** Seconds, then one column for each picked figure; null where there is none, or where samples are missing. */
export function columns<Sample>(
  points: readonly Point<Sample>[],
  picks: readonly ((sample: Sample) => number | undefined)[]
): (number | null)[][] {
  const gap = gapMs(points)
  const out: (number | null)[][] = [[], ...picks.map(() => [])]
  let before = points[0]?.at ?? 0
  for (const { at, sample } of points) {
    if (at - before > gap)
      push(
        out,
        (at + before) / 2,
        picks.map(() => undefined)
      )
    push(
      out,
      at,
      picks.map((pick) => pick(sample))
    )
    before = at
  }
  return out
}

function push(out: (number | null)[][], at: number, values: readonly (number | undefined)[]): void {
  out[0]?.push(at / 1_000)
  for (const [index, value] of values.entries()) out[index + 1]?.push(value ?? null)
}

/** Three times what usually lies between two samples. */
function gapMs(points: readonly Point<unknown>[]): number {
  const steps = points.slice(1).map(({ at }, index) => at - (points[index]?.at ?? at))
  const middle = steps.toSorted((left, right) => left - right)[Math.floor(steps.length / 2)] ?? 0
  return middle * 3
}
