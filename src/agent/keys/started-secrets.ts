// Where the scheduler keeps the keys: libvirt forgets each as soon as its VM runs, so that the next start has to ask again.

import { asHostletError } from '../../errors.ts'
import type { Clock } from '../../lib/clock.ts'
import { startDeadline } from '../../lib/deadline.ts'
import type { Logger } from '../../lib/log.ts'
import type { DomainEvent, Hypervisor } from '../host/hypervisor.ts'

const forgetMs = 30_000

export interface StartedSecretsOptions {
  readonly hypervisor: Pick<Hypervisor, 'onEvent' | 'findVm' | 'removeSecret'>
  readonly clock: Clock
  readonly log: Logger
}

export class StartedSecrets implements AsyncDisposable {
  readonly #options: StartedSecretsOptions
  readonly #listener: Disposable
  readonly #stopping = new AbortController()
  #forgetting: Promise<void> = Promise.resolve()

  constructor(options: StartedSecretsOptions) {
    this.#options = options
    this.#listener = options.hypervisor.onEvent((event) => {
      if (event.kind === 'started') this.#forgetting = this.#forgetting.then(() => this.#forget(event))
    })
  }

  /** Resolves when the secrets of VMs that have started so far are forgotten. */
  async settled(): Promise<void> {
    await this.#forgetting
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#listener[Symbol.dispose]()
    this.#stopping.abort(new Error('the agent stops'))
    await this.#forgetting
  }

  async #forget({ name, run }: DomainEvent): Promise<void> {
    const { hypervisor, clock, log } = this.#options
    const { signal: outer } = this.#stopping
    if (outer.aborted) return
    using deadline = startDeadline({ clock, ms: forgetMs, what: 'forgetting keys', signal: outer })
    try {
      const record = await hypervisor.findVm(name, deadline)
      // Another run by now: its own start may need them still.
      if (record === undefined || record.run !== run) return
      for (const id of [record.placement.rootKey, record.placement.dataKey])
        if (id !== undefined) await hypervisor.removeSecret(id, deadline)
    } catch (error) {
      if (!outer.aborted)
        log.warn({ vm: name, error: asHostletError(error) }, 'libvirt could not be made to forget a key')
    }
  }
}
