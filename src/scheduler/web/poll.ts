// Looks again and again while somebody looks at the page: lists, single things, and samples over time.

import { useCallback, useEffect, useRef, useState } from 'preact/hooks'
import { useApp } from './context.ts'
import { withQuery } from './routes.ts'
import { joined, newsSince, type Point, stepOf } from './series.ts'

export const liveMs = 2_000
export const listMs = 5_000
export const samplesMs = 10_000
/** After a failure it waits longer, up to so much. */
const waitMsMax = 30_000

export interface Polled<Data> {
  readonly data: Data | undefined
  /** Of the last try; the data are then from before. */
  readonly error: unknown
  /** When the data came. */
  readonly at: number
  /** Looks at once. */
  refresh(): void
}

/** `path` undefined: nothing is asked. Another path keeps the earlier data until its own come. */
export function usePoll<Data>(path: string | undefined, everyMs: number = listMs): Polled<Data> {
  const { api } = useApp()
  const look = useCallback(
    (signal: AbortSignal) => (path === undefined ? undefined : api.look<Data>(path, signal)),
    [api, path]
  )
  return useLook<Data>(look, everyMs)
}

/** Samples of the last `rangeMs`: all of them first, then what is new. */
export function useSamples<Sample>(path: string, rangeMs: number): Polled<readonly Point<Sample>[]> {
  const { api } = useApp()
  const known = useRef<{ key: string; points: readonly Point<Sample>[] }>({ key: '', points: [] })
  const look = useCallback(
    async (signal: AbortSignal) => {
      const key = `${path} ${rangeMs}`
      const before = known.current.key === key ? known.current.points : []
      const stepMs = stepOf(rangeMs)
      const since = Math.floor(Date.now() - rangeMs)
      const sinceMs = newsSince(before, stepMs) ?? since
      const asked = withQuery(path, { sinceMs, stepMs, limit: 1_000 })
      const { points } = await api.look<{ points: readonly Point<Sample>[] }>(asked, signal)
      known.current = { key, points: joined(before, points, { since }) }
      return known.current.points
    },
    [api, path, rangeMs]
  )
  return useLook(look, samplesMs)
}

/** Looks when it is first used, every so often after that, and when somebody comes back to the page. */
function useLook<Data>(
  look: (signal: AbortSignal) => Promise<Data> | undefined,
  everyMs: number
): Polled<Data> {
  const [state, setState] = useState<{ data?: Data; error?: unknown; at: number }>({ at: 0 })
  const wake = useRef<() => void>(() => {})
  useEffect(() => {
    const stop = new AbortController()
    const round = new Round(
      async () => {
        const data = await look(stop.signal)
        if (data !== undefined && !stop.signal.aborted) setState({ data, at: Date.now() })
      },
      (error) => setState((before) => ({ ...before, error })),
      { everyMs, signal: stop.signal }
    )
    wake.current = () => round.now()
    round.now()
    return () => stop.abort()
  }, [look, everyMs])
  const refresh = useCallback(() => wake.current(), [])
  return { data: state.data, error: state.error, at: state.at, refresh }
}

/** One look at a time; none while the page is hidden. */
class Round {
  readonly #work: () => Promise<void>
  readonly #failed: (error: unknown) => void
  readonly #signal: AbortSignal
  readonly #everyMs: number
  #timer: ReturnType<typeof setTimeout> | undefined
  #isBusy = false
  #isWanted = false
  #failures = 0

  constructor(
    work: () => Promise<void>,
    failed: (error: unknown) => void,
    { everyMs, signal }: { everyMs: number; signal: AbortSignal }
  ) {
    this.#work = work
    this.#failed = failed
    this.#everyMs = everyMs
    this.#signal = signal
    document.addEventListener('visibilitychange', () => this.now(), { signal })
    addEventListener('online', () => this.now(), { signal })
    signal.addEventListener('abort', () => clearTimeout(this.#timer))
  }

  now(): void {
    clearTimeout(this.#timer)
    this.#isWanted = true
    if (!this.#isBusy) void this.#run()
  }

  async #run(): Promise<void> {
    if (document.visibilityState === 'hidden' || this.#signal.aborted) return
    this.#isBusy = true
    this.#isWanted = false
    try {
      await this.#work()
      this.#failures = 0
    } catch (error) {
      this.#failures++
      if (!this.#signal.aborted) this.#failed(error)
    }
    this.#isBusy = false
    if (this.#signal.aborted) return
    const waitMs = this.#isWanted ? 0 : Math.min(this.#everyMs * 2 ** this.#failures, waitMsMax)
    this.#timer = setTimeout(() => this.#run(), waitMs)
  }
}
