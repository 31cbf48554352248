// What a process counts of itself for its metrics: counters by labels, and times in buckets. Cheap to add to, bounded in kinds.

import {
  familyHead,
  familyText,
  type LabelledValue,
  type Labels,
  labelText,
  type MetricFamily,
  valueLine
} from './exposition.ts'

/** Kinds that one counter tells apart; what is beyond is counted under none of them. */
export const kindsMax = 2_000

export class Tally {
  readonly family: MetricFamily
  readonly #counts = new Map<string, { readonly labels: Labels; count: number }>()

  /** @param known kinds that are there from the start, with 0: growth from nothing is no growth to Prometheus. */
  constructor(family: MetricFamily, known: readonly Labels[] = []) {
    this.family = family
    for (const labels of known) this.add(labels, 0)
  }

  add(labels: Labels, amount = 1): void {
    const key = keyOf(this.family, labels)
    const known = this.#counts.get(key)
    if (known !== undefined) known.count += amount
    else if (this.#counts.size < kindsMax) this.#counts.set(key, { labels, count: amount })
  }

  text(more: Labels = {}): string {
    const values = [...this.#counts.values()].map(
      ({ labels, count }): LabelledValue => [{ ...more, ...labels }, count]
    )
    return familyText(this.family, values)
  }
}

interface Histogram {
  readonly labels: Labels
  /** By bucket, not yet summed up. */
  readonly counts: number[]
  count: number
  sum: number
}

export class Timings {
  readonly family: MetricFamily
  readonly #bounds: readonly number[]
  readonly #histograms = new Map<string, Histogram>()

  /** @param bounds upper bounds of the buckets in seconds, ascending; a last one without bound is added. */
  constructor(family: MetricFamily, bounds: readonly number[]) {
    this.family = family
    this.#bounds = bounds
  }

  observe(labels: Labels, seconds: number): void {
    const histogram = this.#of(labels)
    if (histogram === undefined) return
    const bucket = this.#bounds.findIndex((bound) => seconds <= bound)
    if (bucket >= 0) histogram.counts[bucket] = (histogram.counts[bucket] ?? 0) + 1
    histogram.count += 1
    histogram.sum += seconds
  }

  text(more: Labels = {}): string {
    const histograms = [...this.#histograms.values()]
    if (histograms.length === 0) return ''
    return familyHead(this.family) + histograms.map((histogram) => this.#lines(histogram, more)).join('')
  }

  #of(labels: Labels): Histogram | undefined {
    const key = keyOf(this.family, labels)
    const known = this.#histograms.get(key)
    if (known !== undefined || this.#histograms.size >= kindsMax) return known
    const made = { labels, counts: this.#bounds.map(() => 0), count: 0, sum: 0 }
    this.#histograms.set(key, made)
    return made
  }

  #lines({ labels, counts, count, sum }: Histogram, more: Labels): string {
    const { name } = this.family
    const of = (bound: string) => labelText({ ...more, ...labels, le: bound })
    let below = 0
    let text = ''
    for (const [index, bound] of this.#bounds.entries()) {
      below += counts[index] ?? 0
      text += valueLine(`${name}_bucket`, of(String(bound)), below)
    }
    const all = labelText({ ...more, ...labels })
    text += valueLine(`${name}_bucket`, of('+Inf'), count)
    return text + valueLine(`${name}_sum`, all, sum) + valueLine(`${name}_count`, all, count)
  }
}

function keyOf({ labels: names }: MetricFamily, labels: Labels): string {
  return names.map((name) => labels[name] ?? '').join('\n')
}
