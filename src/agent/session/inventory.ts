// Tells the scheduler what is on this host: everything, each time that it may have changed, and never two looks at once.

import type { Clock } from '../../lib/clock.ts'
import { startDeadline } from '../../lib/deadline.ts'
import type { Logger } from '../../lib/log.ts'
import type { AgentMessageOf } from '../../protocol/messages.ts'
import type { ForeignDomain, HostFacts, VmSummary } from '../../protocol/vm.ts'
import type { Wait } from '../host/hypervisor.ts'

export const inventoryDeadlineMs = 30_000
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
  post(inventory: AgentMessageOf<'inventory'>): void
}

export class InventoryReporter implements AsyncDisposable {
  readonly #options: InventoryOptions
  readonly #stopping = new AbortController()
  #look: Promise<void> | undefined
  #again = false

  constructor(options: InventoryOptions) {
    this.#options = options
  }

  /** Looks and posts; a look that is asked for while one is under way follows it. A failed one is logged: the next connect looks again. */
  refresh(): Promise<void> {
    if (this.#look !== undefined) this.#again = true
    else this.#look = this.#run()
    return this.#look
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stopping.abort(new Error('the agent stops'))
    await this.#look
  }

  async #run(): Promise<void> {
    do {
      this.#again = false
      await this.#once()
    } while (this.#again && !this.#stopping.signal.aborted)
    this.#look = undefined
  }

  async #once(): Promise<void> {
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
    } catch (error) {
      if (!outer.aborted) log.warn({ error }, 'inventory could not be taken')
    }
  }
}
