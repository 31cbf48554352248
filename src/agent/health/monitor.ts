// Gathers what is known of the host's health, for the heartbeat and for the service manager's watchdog.

import { asHostletError } from '../../errors.ts'
import type { Clock } from '../../lib/clock.ts'
import type { Logger } from '../../lib/log.ts'
import type { Condition } from '../../protocol/messages.ts'
import type { HostSample } from '../../protocol/metrics.ts'
import type { PlanHealth } from '../backups/schedule-plan.ts'
import type { Hypervisor } from '../host/hypervisor.ts'
import { checkIdentity, type Validity, validityOf } from '../identity/certificates.ts'
import type { Identity } from '../identity/identity.ts'
import { checkMachine } from '../identity/machine.ts'
import type { KeyHealth } from '../keys/key-watch.ts'
import type { Journal } from '../operations/journal.ts'
import type { HealthFacts } from './conditions.ts'
import { healthyInventory, type InventoryHealth } from './inventory-rules.ts'
import { HealthTracker } from './tracker.ts'

export interface HealthMonitorOptions {
  readonly clock: Pick<Clock, 'now'>
  readonly log: Logger
  readonly hypervisor: Pick<Hypervisor, 'status' | 'silentPools'>
  readonly journal: Pick<Journal, 'probe'>
  leftovers(): number
  seedsInMemory(): boolean | undefined
  firewall?(): HealthFacts['firewall']
  backups(): readonly PlanHealth[]
  keys(): KeyHealth
  /** What is wrong with the audit trail. */
  trail?(): string | undefined
  inventory?(): InventoryHealth
  policy?(): string | undefined
  /** Why nobody on this host can ask the agent. */
  localSocket?(): string | undefined
  /** Why the last trust statement that came is not in force. */
  trust?(): string | undefined
  identity(): Identity
  /** Stands for this machine. */
  readonly machine?: string | undefined
}

/** Half of it is how far a reading may be off: well below what raises a condition. */
const readingMsMax = 10_000

export class HealthMonitor {
  readonly #options: HealthMonitorOptions
  readonly #tracker: HealthTracker
  #clockSkewMs: number | undefined
  #pool: HealthFacts['pool']
  #journalFault: string | undefined

  constructor(options: HealthMonitorOptions) {
    this.#options = options
    this.#tracker = new HealthTracker(options)
  }

  /**
   * What the scheduler's clock showed at `sentAt`. With the time by our clock at which it was asked, the middle between
   * asking and answer counts; an answer that took longer than `readingMsMax`, or ours was set meanwhile, says nothing.
   */
  noteSchedulerClock(sentAt: number, askedAt?: number): void {
    const now = this.#options.clock.now()
    const tookMs = now - (askedAt ?? now)
    if (tookMs >= 0 && tookMs <= readingMsMax) this.#clockSkewMs = sentAt - (now - tookMs / 2)
  }

  notePool({ poolCapacityBytes, poolAvailableBytes }: HostSample): void {
    this.#pool = { capacityBytes: poolCapacityBytes, availableBytes: poolAvailableBytes }
  }

  /** What holds now; looks anew. */
  conditions(): Condition[] {
    this.#probe()
    return this.#tracker.update(this.#facts())
  }

  /** Whether the agent can do its work: it runs this code, and its journal answers. */
  selfCheck(): boolean {
    this.#probe()
    this.#tracker.update(this.#facts())
    return this.#journalFault === undefined
  }

  #probe(): void {
    try {
      this.#options.journal.probe()
      this.#journalFault = undefined
    } catch (error) {
      this.#journalFault = asHostletError(error).message
    }
  }

  #facts(): HealthFacts {
    const { backups, clock, hypervisor, keys, leftovers, seedsInMemory } = this.#options
    return {
      now: clock.now(),
      hypervisor: hypervisor.status(),
      clockSkewMs: this.#clockSkewMs,
      pool: this.#pool,
      silentPools: hypervisor.silentPools?.() ?? [],
      journalFault: this.#journalFault,
      leftovers: leftovers(),
      seedsInMemory: seedsInMemory(),
      backups: backups(),
      firewall: this.#options.firewall?.(),
      keys: keys(),
      trailFault: this.#options.trail?.(),
      inventory: this.#options.inventory?.() ?? healthyInventory,
      policyFault: this.#options.policy?.(),
      localSocketFault: this.#options.localSocket?.(),
      trustFault: this.#options.trust?.(),
      ...this.#identityFacts()
    }
  }

  /** Dates are judged by the rules, which warn before they end; everything else of an identity is good or not. */
  #identityFacts(): { certificate: Validity | undefined; identityFault: string | undefined } {
    const identity = this.#options.identity()
    try {
      const certificate = validityOf(identity.certificate)
      const middle = (certificate.from + certificate.to) / 2
      checkIdentity(identity, middle)
      checkMachine(identity, this.#options.machine)
      return { certificate, identityFault: undefined }
    } catch (error) {
      return { certificate: undefined, identityFault: asHostletError(error).message }
    }
  }
}
