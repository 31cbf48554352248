// Keys on their way to libvirt: before each start, and again for all VMs when libvirt has come back, which forgets them.

import { asHostletError, HostletError } from '../../errors.ts'
import type { Clock } from '../../lib/clock.ts'
import { startDeadline } from '../../lib/deadline.ts'
import type { Logger } from '../../lib/log.ts'
import type { Hypervisor, HypervisorStatus, StartGate, VmRecord, Wait } from '../host/hypervisor.ts'

/** Whoever knows the keys of disks. */
export interface DiskKeySource {
  /** Throws when it cannot be had: then the VM does not start. */
  passphrase(keyId: string, vm: { name: string; uuid: string }, wait: Wait): Promise<string>
}

export interface KeySupplyOptions {
  readonly hypervisor: Pick<Hypervisor, 'addStartGate' | 'onStatus' | 'listVms' | 'defineSecret'>
  readonly source: DiskKeySource
  /** Whether libvirt is told the keys of all VMs when it comes back; true unless said otherwise. */
  readonly onConnect?: boolean
  readonly clock: Clock
  readonly log: Logger
}

const supplyMs = 120_000

export class KeySupply implements AsyncDisposable {
  readonly #options: KeySupplyOptions
  readonly #stopping = new AbortController()
  readonly #held = new DisposableStack()
  #supplying: Promise<void> = Promise.resolve()
  #begun = false

  constructor(options: KeySupplyOptions) {
    this.#options = options
  }

  /** From now on no machine starts without its keys. */
  begin(): void {
    if (this.#begun) return
    this.#begun = true
    const { hypervisor } = this.#options
    this.#held.use(hypervisor.addStartGate(this.supply))
    if (this.#options.onConnect !== false) this.#held.use(hypervisor.onStatus((status) => this.#take(status)))
  }

  /** Tells libvirt the keys of one VM. */
  readonly supply: StartGate = async ({ specification: vm, placement }, wait) => {
    const { hypervisor, source } = this.#options
    for (const id of [placement.rootKey, placement.dataKey]) {
      if (id === undefined) continue
      const passphrase = await source.passphrase(id, vm, wait)
      await hypervisor.defineSecret({ id, passphrase }, wait)
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#held.dispose()
    this.#stopping.abort(new HostletError('E_CANCELLED', 'the agent is stopping'))
    await this.#supplying
  }

  #take({ state }: HypervisorStatus): void {
    if (state === 'connected') this.#supplying = this.#supplying.then(() => this.#supplyAll())
  }

  async #supplyAll(): Promise<void> {
    const { hypervisor, clock, log } = this.#options
    const { signal: outer } = this.#stopping
    if (outer.aborted) return
    using deadline = startDeadline({ clock, ms: supplyMs, what: 'telling libvirt the keys', signal: outer })
    try {
      for (const record of await hypervisor.listVms(deadline)) await this.#supplyOne(record, deadline)
    } catch (error) {
      if (!outer.aborted) log.warn({ error: asHostletError(error) }, 'libvirt could not be told the keys')
    }
  }

  /** One VM whose key is lost keeps no other from its own. */
  async #supplyOne(record: VmRecord, wait: Wait): Promise<void> {
    try {
      await this.supply(record, wait)
    } catch (thrown) {
      wait.signal.throwIfAborted()
      const error = asHostletError(thrown)
      if (error.code === 'E_UNAVAILABLE') throw error
      this.#options.log.warn({ vm: record.specification.name, error }, 'the keys of a VM are not to be had')
    }
  }
}
