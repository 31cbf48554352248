// Tells the scheduler what is on this host: everything, each time that it may have changed, and never two looks at once.

import type { Clock } from '../../lib/clock.ts'
import { startDeadline } from '../../lib/deadline.ts'
import type { Logger } from '../../lib/log.ts'
import type { AgentMessageOf } from '../../protocol/messages.ts'
import type { ForeignDomain, HostFacts, VmSummary } from '../../protocol/vm.ts'
import type { Wait } from '../host/hypervisor.ts'

export const inventoryDeadlineMs = 30_000
/** After a look that failed. */
export const inventoryRetryMs = 10_000
const domainsMax = 16_384

/** What is looked at. */
export interface InventorySources {
  facts(wait: Wait): Promise<HostFacts>
  vms(wait: Wait): Promise<VmSummary[]>
  foreign(wait: Wait): Promise<readonly ForeignDomain[]>
}

export interface InventoryOptions {
  readonly sources: InventorySources
  readonly clock: Clock
  readonly log: Logger
  /** Whether there is something to look at: while libvirt is away there is not, and its return brings a look. */
  isReady(): boolean
  post(inventory: AgentMessageOf<'inventory'>): void
}

export class InventoryReporter implements AsyncDisposable {
  readonly #options: InventoryOptions
  readonly #stopping = new AbortController()
  #look: Promise<void> | undefined
  #again = false
  #retry: Disposable | undefined

  constructor(options: InventoryOptions) {
    this.#options = options
  }

  /** Looks and posts; a look that is asked for while one is under way follows it. One that failed is logged and repeated soon: what the scheduler shows would stay wrong. */
  refresh(): Promise<void> {
    if (this.#look !== undefined) this.#again = true
    else this.#look = this.#run()
    return this.#look
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stopping.abort(new Error('the agent stops'))
    this.#retry?.[Symbol.dispose]()
    await this.#look
  }

  async #run(): Promise<void> {
    const { clock, isReady } = this.#options
    this.#retry?.[Symbol.dispose]()
    let isTold = false
    do {
      this.#again = false
      isTold = await this.#once()
    } while (this.#again && !this.#stopping.signal.aborted)
    this.#look = undefined
    if (isTold || this.#stopping.signal.aborted) return
    this.#retry = clock.timer(inventoryRetryMs, () => {
      if (isReady()) void this.refresh()
    })
  }

  async #once(): Promise<boolean> {
    const { clock, log, post, sources } = this.#options
    const { signal: outer } = this.#stopping
    using deadline = startDeadline({ clock, ms: inventoryDeadlineMs, what: 'the inventory', signal: outer })
    const wait = { signal: deadline.signal }
    try {
      const [facts, vms, foreign] = await Promise.all([
        sources.facts(wait),
        sources.vms(wait),
        sources.foreign(wait)
      ])
      post({
        type: 'inventory',
        at: clock.now(),
        facts,
        vms: vms.slice(0, domainsMax),
        foreign: foreign.slice(0, domainsMax)
      })
      return true
    } catch (error) {
      if (!outer.aborted) log.warn({ error }, 'inventory could not be taken')
      return false
    }
  }
}
