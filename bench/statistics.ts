// Statistics of samples: percentiles, and the ratio of two things that ran in turn. Pure.

export interface Summary {
  readonly median: number
  readonly p10: number
  readonly p90: number
  readonly count: number
}

/** The value below which `share` (0 to 1) of the samples lie, interpolated between neighbours. */
export function percentile(samples: readonly number[], share: number): number {
  if (!(share >= 0 && share <= 1)) throw new RangeError(`share must be from 0 to 1, got ${share}`)
  const sorted = checked(samples).toSorted((left, right) => left - right)
  const position = share * (sorted.length - 1)
  const below = Math.floor(position)
  const low = sorted[below] as number
  const high = sorted[Math.min(below + 1, sorted.length - 1)] as number
  return low + (high - low) * (position - below)
}

export function median(samples: readonly number[]): number {
  return percentile(samples, 0.5)
}

export function summarize(samples: readonly number[]): Summary {
  return {
    median: median(samples),
    p10: percentile(samples, 0.1),
    p90: percentile(samples, 0.9),
    count: samples.length
  }
}

/**
 * `left / right` of each pair, summarized. Taken pair by pair, since the two of a pair met the same noise of the machine;
 * the ratio of two medians would mix quiet moments of one with busy moments of the other.
 */
export function ratioOfPairs(left: readonly number[], right: readonly number[]): Summary {
  if (left.length !== right.length) {
    throw new RangeError(`pairs need two lists of one length, got ${left.length} and ${right.length}`)
  }
  checked(right).forEach((value, index) => {
    if (value <= 0) throw new RangeError(`sample ${index} on the right is ${value}: nothing was measured`)
  })
  return summarize(left.map((value, index) => value / (right[index] as number)))
}

/** Slope of the samples against their index, per sample (least squares): how much a value grows a cycle. */
export function slope(samples: readonly number[]): number {
  const count = checked(samples).length
  if (count < 2) throw new RangeError('a slope needs at least two samples')
  const middle = (count - 1) / 2
  const mean = samples.reduce((sum, value) => sum + value, 0) / count
  let covariance = 0
  let variance = 0
  samples.forEach((value, index) => {
    covariance += (index - middle) * (value - mean)
    variance += (index - middle) ** 2
  })
  return covariance / variance
}

function checked(samples: readonly number[]): readonly number[] {
  if (samples.length === 0) throw new RangeError('no samples')
  const wrong = samples.find((value) => !Number.isFinite(value))
  if (wrong !== undefined) throw new RangeError(`a sample is ${wrong}`)
  return samples
}
