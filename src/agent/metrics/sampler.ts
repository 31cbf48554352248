// Takes one sample a round: the host's figures from /proc, every VM's from one bulk call. Rounds never overlap.

import { asHostletError, HostletError } from '../../errors.ts'
import type { Clock } from '../../lib/clock.ts'
import type { Logger } from '../../lib/log.ts'
import type { MetricsSample, VmSample } from '../../protocol/metrics.ts'
import type { DomainCounters, Hypervisor, Wait } from '../host/hypervisor.ts'
import { batchVmSamplesMax } from './buffer.ts'
import { type HostCounters, readHostCounters } from './host-reader.ts'
import { hostSample, type PoolFigures, type Reading, vmSample } from './rates.ts'

export const samplingIntervalMsMin = 1_000
export const samplingIntervalMsMax = 3_600_000
/** How long a round waits for the hypervisor before it goes out without what it did not tell. */
export const hypervisorWaitMsMax = 5_000
/** The pool's free space needs more calls and changes slowly: asked for this seldom. */
export const poolRefreshMs = 30_000

export interface SamplerOptions {
  readonly hypervisor: Pick<Hypervisor, 'counters' | 'facts'>
  readonly clock: Clock
  readonly log: Logger
  readonly intervalMs: number
  readonly onSample: (sample: MetricsSample) => void
  /** For tests; the real reader otherwise. */
  readonly readHost?: () => HostCounters
}

export class Sampler {
  readonly #options: SamplerOptions
  readonly #readHost: () => HostCounters
  #intervalMs: number
  #timer: Disposable | undefined
  #stop: AbortController | undefined
  #round: Promise<void> | undefined
  #host: Reading<HostCounters> | undefined
  #vms = new Map<string, Reading<DomainCounters>>()
  readonly #counters: Asked<readonly DomainCounters[]>
  readonly #pool: Asked<PoolFigures>
  #poolFigures: PoolFigures = { poolCapacityBytes: 0, poolAvailableBytes: 0 }
  #poolReadAtMs = Number.NEGATIVE_INFINITY
  #statisticsMs: number | undefined

  constructor(options: SamplerOptions) {
    this.#options = options
    this.#readHost = options.readHost ?? (() => readHostCounters())
    this.#intervalMs = clampInterval(options.intervalMs)
    this.#counters = new Asked((wait) => options.hypervisor.counters(wait), options.clock)
    this.#pool = new Asked((wait) => options.hypervisor.facts(wait), options.clock)
  }

  get intervalMs(): number {
    return this.#intervalMs
  }

  /** How long the hypervisor took for the counters of all VMs when it last answered; undefined before the first answer. */
  get statisticsMs(): number | undefined {
    return this.#statisticsMs
  }

  /** Reads the base line now; the first sample comes after a second, so that a new host is seen soon, the next at the interval. */
  start(): void {
    if (this.#stop !== undefined) return
    this.#stop = new AbortController()
    this.#host = this.#readHostNow()
    this.#schedule(Math.min(this.#intervalMs, samplingIntervalMsMin))
  }

  /** Ends sampling, also a round that is waiting; resolves when nothing runs any more. */
  async stop(): Promise<void> {
    this.#timer?.[Symbol.dispose]()
    this.#timer = undefined
    this.#stop?.abort(new HostletError('E_CANCELLED', 'sampling was stopped'))
    this.#stop = undefined
    await this.#round
  }

  /** Counts anew from now; what lies outside the limits is brought within. */
  setInterval(intervalMs: number): void {
    const clamped = clampInterval(intervalMs)
    if (clamped === this.#intervalMs) return
    this.#intervalMs = clamped
    if (this.#timer !== undefined) this.#schedule(clamped)
  }

  #schedule(delayMs: number): void {
    this.#timer?.[Symbol.dispose]()
    this.#timer = this.#options.clock.timer(delayMs, () => this.#begin())
  }

  #begin(): void {
    if (this.#stop === undefined) return
    // The next one is due an interval from now; a round that is still under way when it fires takes its place.
    this.#schedule(this.#intervalMs)
    this.#round ??= this.#sample(this.#stop.signal)
      .catch((error: unknown) =>
        this.#options.log.error({ error: asHostletError(error) }, 'metrics round failed')
      )
      .finally(() => {
        this.#round = undefined
      })
  }

  async #sample(signal: AbortSignal): Promise<void> {
    const [vms] = await Promise.all([this.#sampleVms(signal), this.#refreshPool(signal)])
    if (signal.aborted) return
    const host = this.#readHostNow()
    const sample: MetricsSample = {
      at: Math.round(this.#options.clock.now()),
      host: hostSample(this.#host ?? host, host, this.#poolFigures),
      vms
    }
    this.#host = host
    this.#options.onSample(sample)
  }

  async #sampleVms(signal: AbortSignal): Promise<VmSample[]> {
    const askedAtMs = this.#options.clock.monotonic()
    const counters = await this.#tryAsk(this.#counters, signal)
    // Old readings stay: the rates of the next answer then span the gap.
    if (counters === undefined) return []
    const atMs = this.#options.clock.monotonic()
    this.#statisticsMs = atMs - askedAtMs
    const readings = new Map<string, Reading<DomainCounters>>()
    // More than one message takes are left out: thousands of VMs on a host are not something to be exact about.
    for (const domain of counters.slice(0, batchVmSamplesMax))
      readings.set(domain.uuid, { atMs, counters: domain })
    const samples = [...readings].map(([uuid, reading]) => vmSample(this.#vms.get(uuid), reading))
    this.#vms = readings
    return samples
  }

  async #refreshPool(signal: AbortSignal): Promise<void> {
    const nowMs = this.#options.clock.monotonic()
    if (nowMs - this.#poolReadAtMs < poolRefreshMs) return
    const facts = await this.#tryAsk(this.#pool, signal)
    if (facts === undefined) return
    this.#poolReadAtMs = nowMs
    const { poolCapacityBytes, poolAvailableBytes } = facts
    this.#poolFigures = { poolCapacityBytes, poolAvailableBytes }
  }

  async #tryAsk<Value>(asked: Asked<Value>, signal: AbortSignal): Promise<Value | undefined> {
    const failedBefore = asked.failed
    try {
      return await asked.ask(signal, Math.min(hypervisorWaitMsMax, this.#intervalMs * 0.8))
    } catch (error) {
      const fault = asHostletError(error)
      // That it is away was said already, by what watches the connection.
      if (!signal.aborted && !failedBefore && fault.code !== 'E_UNAVAILABLE')
        this.#options.log.warn({ error: fault }, 'metrics without the hypervisor')
      return undefined
    }
  }

  #readHostNow(): Reading<HostCounters> {
    return { atMs: this.#options.clock.monotonic(), counters: this.#readHost() }
  }
}

/** One question to the hypervisor at a time, with a deadline that holds even when the answer ignores its signal. */
class Asked<Value> {
  readonly #question: (wait: Wait) => Promise<Value>
  readonly #clock: Clock
  #underWay = false
  /** Whether the last question went unanswered. */
  failed = false

  constructor(question: (wait: Wait) => Promise<Value>, clock: Clock) {
    this.#question = question
    this.#clock = clock
  }

  /** Throws E_TIMEOUT after `waitMs`, also while an earlier question hangs; the hypervisor's own errors; the signal's reason. */
  async ask(signal: AbortSignal, waitMs: number): Promise<Value> {
    signal.throwIfAborted()
    if (this.#underWay)
      throw new HostletError('E_TIMEOUT', 'the hypervisor has not answered the previous round')
    this.#underWay = true
    this.failed = true
    const deadline = new AbortController()
    using _timer = this.#clock.timer(waitMs, () =>
      deadline.abort(new HostletError('E_TIMEOUT', `the hypervisor did not answer within ${waitMs} ms`))
    )
    const either = AbortSignal.any([signal, deadline.signal])
    const answer = this.#answer(either)
    const value = await Promise.race([answer, aborted(either)])
    this.failed = false
    return value
  }

  async #answer(signal: AbortSignal): Promise<Value> {
    try {
      return await this.#question({ signal })
    } finally {
      this.#underWay = false
    }
  }
}

function aborted(signal: AbortSignal): Promise<never> {
  return new Promise((_resolve, reject) => {
    signal.addEventListener('abort', () => reject(signal.reason), { once: true })
  })
}

function clampInterval(intervalMs: number): number {
  return Math.min(samplingIntervalMsMax, Math.max(samplingIntervalMsMin, intervalMs))
}
