// Which snapshots stay: pure, from their order, their times and the rules.

/** How many of each to keep; what no rule names goes. */
export interface Retention {
  readonly last?: number | undefined
  readonly hourly?: number | undefined
  readonly daily?: number | undefined
  readonly weekly?: number | undefined
  readonly monthly?: number | undefined
  readonly yearly?: number | undefined
}

export interface Dated {
  readonly id: string
  /** The instant whose content it holds, in milliseconds since the epoch. */
  readonly at: number
}

const hourMs = 3_600_000
const dayMs = 24 * hourMs
/** Days from the Monday of the week that the epoch lies in, to the epoch: it was a Thursday. */
const epochWeekday = 3

/** The period that an instant lies in, in UTC: weeks begin on Monday. */
const periods: Readonly<Record<Exclude<keyof Retention, 'last'>, (at: number) => number>> = {
  hourly: (at) => Math.floor(at / hourMs),
  daily: (at) => Math.floor(at / dayMs),
  weekly: (at) => Math.floor((Math.floor(at / dayMs) + epochWeekday) / 7),
  monthly: (at) => new Date(at).getUTCFullYear() * 12 + new Date(at).getUTCMonth(),
  yearly: (at) => new Date(at).getUTCFullYear()
}

/**
 * Ids of the snapshots that stay, given in the order of their making (the newest last). `last` keeps so many of the newest;
 * each other rule keeps the newest of each of the so many newest periods that have a snapshot at all. Periods without one
 * do not count, so that a VM that was off for a year keeps its backups. The newest snapshot stays whatever the rules say.
 */
export function chooseKept(snapshots: readonly Dated[], keep: Retention): Set<string> {
  const newestFirst = snapshots.toReversed()
  const kept = new Set(newestFirst.slice(0, Math.max(1, keep.last ?? 0)).map(({ id }) => id))
  for (const [rule, periodOf] of Object.entries(periods)) {
    const count = keep[rule as keyof typeof periods] ?? 0
    const seen = new Set<number>()
    for (const { id, at } of newestFirst) {
      const period = periodOf(at)
      if (seen.has(period)) continue
      if (seen.size >= count) break
      seen.add(period)
      kept.add(id)
    }
  }
  return kept
}
