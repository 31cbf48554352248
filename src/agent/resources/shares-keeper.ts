// Has the shares of VMs set when the hypervisor is ready, and when a machine has started or a VM has left: one round at a time.

import type { DomainEvent } from '../host/hypervisor.ts'
import type { Resources } from './resources.ts'

const roundMs = 300_000

export class SharesKeeper implements AsyncDisposable {
  readonly #resources: Pick<Resources, 'settle' | 'rebalance'>
  readonly #stopping = new AbortController()
  #asked: 'settle' | 'rebalance' | undefined
  #round: Promise<void> | undefined

  constructor(resources: Pick<Resources, 'settle' | 'rebalance'>) {
    this.#resources = resources
  }

  /** Cores of a VM that is gone are everybody's again; a machine may have begun on some that were given away meanwhile. */
  note({ kind }: Pick<DomainEvent, 'kind'>): void {
    if (kind === 'undefined' || kind === 'started') this.#ask('rebalance')
  }

  ready(): void {
    this.#ask('settle')
  }

  /** Resolves when nothing is under way. */
  async idle(): Promise<void> {
    await this.#round
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stopping.abort(new Error('the agent stops'))
    await this.#round
  }

  #ask(what: 'settle' | 'rebalance'): void {
    if (this.#stopping.signal.aborted) return
    this.#asked = this.#asked === 'settle' ? 'settle' : what
    this.#round ??= this.#run().finally(() => {
      this.#round = undefined
    })
  }

  async #run(): Promise<void> {
    while (this.#asked !== undefined && !this.#stopping.signal.aborted) {
      const what = this.#asked
      this.#asked = undefined
      const signal = AbortSignal.any([this.#stopping.signal, AbortSignal.timeout(roundMs)])
      await this.#resources[what]({ signal })
    }
  }
}
