// Samples waiting for the scheduler: bounded, the oldest dropped first, each kept with the time at which it was taken.

import type { MetricsSample } from '../../protocol/metrics.ts'

/** Samples in one message, as the schema of the metrics message allows. */
export const batchSamplesMax = 64
/** VM samples in one message: the longest that the schema lets through takes 1,500 bytes, and a message at most 8 MiB. */
export const batchVmSamplesMax = 5_000
/** VM samples in the whole buffer, so that a crowded host's memory stays bounded however many rounds fit. */
export const bufferVmSamplesMax = 100_000

export class MetricsBuffer {
  readonly #samplesMax: number
  #samples: MetricsSample[] = []
  #vmSamples = 0
  #dropped = 0

  /** @param options.samplesMax rounds kept while the scheduler is away; at least 1. */
  constructor(options: { samplesMax: number }) {
    this.#samplesMax = Math.max(1, options.samplesMax)
  }

  get size(): number {
    return this.#samples.length
  }

  /** Samples lost since the start because the buffer was full. */
  get dropped(): number {
    return this.#dropped
  }

  push(sample: MetricsSample): void {
    this.#samples.push(sample)
    this.#vmSamples += sample.vms.length
    this.#trim()
  }

  /** Removes and returns the oldest samples that fit one message; empty when there are none. */
  take(samplesMax = batchSamplesMax): MetricsSample[] {
    let count = 0
    let vmSamples = 0
    for (const sample of this.#samples.slice(0, Math.min(samplesMax, batchSamplesMax))) {
      vmSamples += sample.vms.length
      // A single sample always goes, since it can't be split; the sampler keeps it within the limit.
      if (count > 0 && vmSamples > batchVmSamplesMax) break
      count += 1
    }
    const taken = this.#samples.splice(0, count)
    this.#vmSamples -= countVms(taken)
    return taken
  }

  /** Puts a batch back in front that could not be sent. What no longer fits is dropped, the oldest first. */
  giveBack(batch: readonly MetricsSample[]): void {
    this.#samples = [...batch, ...this.#samples]
    this.#vmSamples += countVms(batch)
    this.#trim()
  }

  #trim(): void {
    let excess = 0
    while (
      this.#samples.length - excess > 1 &&
      (this.#samples.length - excess > this.#samplesMax || this.#vmSamples > bufferVmSamplesMax)
    ) {
      this.#vmSamples -= this.#samples[excess]?.vms.length ?? 0
      excess += 1
    }
    this.#samples.splice(0, excess)
    this.#dropped += excess
  }
}

function countVms(samples: readonly MetricsSample[]): number {
  return samples.reduce((total, sample) => total + sample.vms.length, 0)
}
