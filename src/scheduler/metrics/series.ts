// The values of many metrics side by side, gathered thing by thing and written metric by metric, as the text format wants it.

import { familyHead, type MetricFamily, valueLine } from '../../lib/exposition.ts'

/** Lines in one piece of text: a piece takes about a millisecond. */
export const pieceLinesMax = 2_000

interface Values {
  /** Shared by all values of one thing. */
  readonly labels: string[]
  readonly values: number[]
}

export class Series {
  readonly #families = new Map<MetricFamily, Values>()

  /** @param order in which families are written, whatever comes first. */
  constructor(order: readonly MetricFamily[]) {
    for (const family of order) this.#families.set(family, { labels: [], values: [] })
  }

  /** Undefined is left out. `labels` as text. */
  add(family: MetricFamily, labels: string, value: number | boolean | undefined): void {
    if (value === undefined) return
    const known = this.#families.get(family)
    if (known === undefined) throw new TypeError(`${family.name} is not among the families of the series`)
    known.labels.push(labels)
    known.values.push(Number(value))
  }

  /** The text in pieces, to be written one after the other. */
  *pieces(): Generator<string> {
    for (const [family, { labels, values }] of this.#families) {
      if (values.length === 0) continue
      let text = familyHead(family)
      for (const [index, value] of values.entries()) {
        text += valueLine(family.name, labels[index] ?? '', value)
        if ((index + 1) % pieceLinesMax !== 0) continue
        yield text
        text = ''
      }
      if (text !== '') yield text
    }
  }
}
