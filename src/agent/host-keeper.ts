// Follows the hypervisor's comings and goings: lets who waits for it go on, starts what should run after a host boot, keeps the journal small.

import { asHostletError } from '../errors.ts'
import type { Clock } from '../lib/clock.ts'
import { startDeadline } from '../lib/deadline.ts'
import type { Logger } from '../lib/log.ts'
import type { VmSummary } from '../protocol/vm.ts'
import { HeldStarts } from './host/held-starts.ts'
import type { Host } from './host/host.ts'
import type { HypervisorStatus } from './host/hypervisor.ts'
import { type Reconciliation, reconcile, type VmTurns } from './host/reconcile.ts'
import { agentStops, type HostReadiness } from './operations/engine.ts'
import type { Journal } from './operations/journal.ts'

/** Starting all VMs of a host after its boot may take a while. */
export const reconcileDeadlineMs = 15 * 60_000
/** After a look at the VMs that failed while libvirt stayed: until it succeeds nobody knows which were started after the boot. */
export const reconcileRetryMs = 10_000
export const pruneIntervalMs = 6 * 3_600_000

export interface HostKeeperOptions {
  readonly host: Host
  readonly clock: Clock
  readonly log: Logger
  readonly journal: Pick<Journal, 'prune'>
  /** While a VM is started after a host boot, no operation of it runs. */
  readonly turns: VmTurns
  /** VMs that should run after a host boot and could not be started, with the reasons. */
  onReconciled?(failed: Reconciliation['failed']): void
  /** The hypervisor is there (again), and what should run has been started. */
  onReady(): void
}

export class HostKeeper implements HostReadiness, AsyncDisposable {
  readonly #options: HostKeeperOptions
  readonly #stopping = new AbortController()
  readonly #waiting = new Set<() => void>()
  readonly #held: HeldStarts
  #failed: Reconciliation['failed'] = []
  #state: HypervisorStatus['state'] | undefined
  #listener: Disposable | undefined
  #reconciling: Promise<void> = Promise.resolve()
  #again: Disposable | undefined
  #living: ReadonlySet<string> | undefined
  #prunedAt = Number.NEGATIVE_INFINITY

  constructor(options: HostKeeperOptions) {
    this.#options = options
    const onLooked = () => this.#tellFailed()
    this.#held = new HeldStarts({ ...options, stop: this.#stopping.signal, onLooked })
  }

  /** VMs of ours, as last seen. */
  get vms(): number {
    return this.#living?.size ?? 0
  }

  begin(): void {
    const { hypervisor } = this.#options.host
    this.#listener = hypervisor.onStatus((status) => this.#take(status))
    if (this.isReady()) this.#take({ state: 'connected' })
  }

  isReady(): boolean {
    return this.#options.host.hypervisor.status().state === 'connected'
  }

  untilReady(signal: AbortSignal): Promise<void> {
    if (signal.aborted) return Promise.reject(signal.reason)
    if (this.isReady()) return Promise.resolve()
    return new Promise((resolve, reject) => {
      const settle = (end: () => void) => {
        this.#waiting.delete(ready)
        signal.removeEventListener('abort', abort)
        end()
      }
      const ready = () => settle(resolve)
      const abort = () => settle(() => reject(signal.reason))
      this.#waiting.add(ready)
      signal.addEventListener('abort', abort, { once: true })
    })
  }

  /** An inventory was taken: which VMs exist decides what the journal may forget. */
  seen(vms: readonly VmSummary[]): void {
    this.#living = new Set(vms.map(({ uuid }) => uuid))
    const { clock, journal, log } = this.#options
    if (clock.monotonic() - this.#prunedAt < pruneIntervalMs) return
    this.#prunedAt = clock.monotonic()
    try {
      journal.prune(this.#living)
    } catch (error) {
      log.warn({ error: asHostletError(error) }, 'journal could not be pruned')
    }
  }

  /** What kept VMs from starting after the host boot may be over. No effect while the hypervisor is away. */
  reconcile(): void {
    if (this.isReady()) this.#reconciling = this.#reconciling.then(() => this.#reconcile())
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#listener?.[Symbol.dispose]()
    this.#again?.[Symbol.dispose]()
    this.#stopping.abort(agentStops)
    await this.#reconciling
    await this.#held.ended()
  }

  #take({ state }: HypervisorStatus): void {
    const before = this.#state
    this.#state = state
    if (state === 'away' || before === 'connected') return
    for (const ready of [...this.#waiting]) ready()
    this.#reconciling = this.#reconciling.then(() => this.#reconcile())
  }

  async #reconcile(): Promise<void> {
    const { host, clock, log, onReady } = this.#options
    const { signal: outer } = this.#stopping
    if (outer.aborted) return
    using deadline = startDeadline({ clock, ms: reconcileDeadlineMs, what: 'starting VMs', signal: outer })
    try {
      await this.#held.resume()
      const { failed } = await reconcile(host, { signal: deadline.signal }, this.#held)
      this.#failed = failed
      this.#tellFailed()
    } catch (error) {
      if (outer.aborted) return
      log.warn({ error: asHostletError(error) }, 'VMs could not be reconciled')
      this.#tryAgain()
    }
    if (!outer.aborted) onReady()
  }

  #tryAgain(): void {
    this.#again ??= this.#options.clock.timer(reconcileRetryMs, () => {
      this.#again = undefined
      this.reconcile()
    })
  }

  #tellFailed(): void {
    this.#options.onReconciled?.([...this.#failed, ...this.#held.failed])
  }
}
