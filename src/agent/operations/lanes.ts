// Places for operations: each kind of work has its own, so that none waits behind another kind.

import { Limiter, type LimiterOptions, type Ticket } from '../../lib/limiter.ts'
import type { Verb } from './verb.ts'

/** Transfers at a time, unless said otherwise. */
export const transfersMax = 2
/** What stops or removes a VM, at a time; it takes no place from other work, and so keeps none of it waiting. */
export const urgentMax = 4
/** Cancellations and the like: over at once, and behind nothing that they may be meant to end. */
const controlMax = 4
/** What waits for the host as a whole: a drain, which would hold another place for hours. */
const hostMax = 2

const laneNames = ['work', 'transfer', 'urgent', 'control', 'host'] as const
export type LaneName = (typeof laneNames)[number]

type VerbRules = Pick<Verb<never>, 'lane' | 'lock' | 'priority'>

export interface LanesOptions extends LimiterOptions {
  readonly transfersMax?: number
}

export class Lanes {
  readonly #lanes: Readonly<Record<LaneName, Limiter>>

  /** `concurrencyMax` places of the lane `work`; as many may wait for each lane. */
  constructor(options: LanesOptions) {
    const lane = (concurrencyMax: number) => new Limiter({ ...options, concurrencyMax })
    this.#lanes = {
      work: lane(options.concurrencyMax),
      transfer: lane(options.transfersMax ?? transfersMax),
      urgent: lane(urgentMax),
      control: lane(controlMax),
      host: lane(hostMax)
    }
  }

  /** Operations, apart from those that wait for the others. */
  get running(): number {
    return this.#sum(({ running }) => running)
  }

  get waiting(): number {
    return this.#sum(({ waiting }) => waiting)
  }

  /** See `Limiter.enter`. What the agent does by itself (`local`) has time: an erase of hours is not before a stop. */
  enter(
    verb: VerbRules,
    { local, always = false }: { local: boolean; always?: boolean }
  ): Ticket & { readonly lane: LaneName } {
    const lane = laneOf(verb, local)
    return Object.assign(this.#lanes[lane].enter({ always }), { lane })
  }

  #sum(count: (lane: Limiter) => number): number {
    return laneNames
      .filter((name) => name !== 'host')
      .reduce((sum, name) => sum + count(this.#lanes[name]), 0)
  }
}

function laneOf({ lane, lock, priority }: VerbRules, local: boolean): LaneName {
  if (lock === 'host') return 'host'
  if (lock === 'none' && priority === 'urgent') return 'control'
  return priority === 'urgent' && !local ? 'urgent' : (lane ?? 'work')
}
