// Which VMs lack a key on this host, or would lose theirs with it: for the conditions.

import { asHostletError } from '../../errors.ts'
import type { Clock } from '../../lib/clock.ts'
import { startDeadline } from '../../lib/deadline.ts'
import type { Logger } from '../../lib/log.ts'
import type { Hypervisor, VmRecord } from '../host/hypervisor.ts'
import type { EscrowRecords } from './escrow-records.ts'
import type { KeyPlace } from './key-escrow.ts'

/** A new key is told at once; the scheduler may be away for a while. */
export const unescrowedMs = 300_000
const lookMs = 60_000

/** Names of VMs. */
export interface KeyHealth {
  /** No recovery key opens what the scheduler has of their keys, and why. */
  readonly unescrowed: readonly { readonly vm: string; readonly why: string }[]
  /** They are to run, and their keys lie at the scheduler, which is away. */
  readonly awaited: readonly string[]
  /** Their disks are encrypted with keys that this host does not have. */
  readonly missing: readonly string[]
}

export const healthyKeys: KeyHealth = { unescrowed: [], awaited: [], missing: [] }

export interface KeyWatchOptions {
  readonly place: KeyPlace
  readonly records: Pick<EscrowRecords, 'all' | 'find'> | undefined
  /** Whether the wrapped key lies on this host. */
  has(id: string): boolean
  /** Why the policy names no recovery key; undefined where it does. */
  policyFault(): string | undefined
  readonly hypervisor: Pick<Hypervisor, 'listVms'>
  readonly clock: Clock
  readonly log: Logger
}

export class KeyWatch implements AsyncDisposable {
  readonly #options: KeyWatchOptions
  readonly #stopping = new AbortController()
  #looking: Promise<void> | undefined
  #again = false
  #missing: readonly string[] = []
  #awaited: readonly string[] = []

  constructor(options: KeyWatchOptions) {
    this.#options = options
  }

  /** Looks at all VMs anew; returns at once. */
  look(): void {
    this.#again = true
    this.#looking ??= this.#look().finally(() => {
      this.#looking = undefined
      // What was asked for in the last moment.
      if (this.#again && !this.#stopping.signal.aborted) this.look()
    })
  }

  /** Resolves when the look that goes on has ended. */
  async looked(): Promise<void> {
    await this.#looking
  }

  /** VMs that could not be started for want of the scheduler. */
  noteAwaited(vms: readonly string[]): void {
    this.#awaited = vms
  }

  get awaited(): readonly string[] {
    return this.#awaited
  }

  health(): KeyHealth {
    return { unescrowed: this.#unescrowed(), awaited: this.#awaited, missing: this.#missing }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stopping.abort(new Error('the agent stops'))
    await this.#looking
  }

  async #look(): Promise<void> {
    const { hypervisor, clock, log } = this.#options
    while (this.#again && !this.#stopping.signal.aborted) {
      this.#again = false
      using deadline = startDeadline({
        clock,
        ms: lookMs,
        what: 'listing VMs',
        signal: this.#stopping.signal
      })
      try {
        this.#missing = (await hypervisor.listVms(deadline)).filter((vm) => this.#lacksKey(vm)).map(nameOf)
      } catch (error) {
        if (!this.#stopping.signal.aborted)
          log.debug({ error: asHostletError(error) }, 'keys of VMs could not be looked at')
      }
    }
  }

  #lacksKey({ placement }: VmRecord): boolean {
    const { place, records, has } = this.#options
    const ids = [placement.rootKey, placement.dataKey].filter((id) => id !== undefined)
    return ids.some((id) => !(has(id) || (place === 'scheduler' && records?.find(id) !== undefined)))
  }

  #unescrowed(): KeyHealth['unescrowed'] {
    const { records, clock, policyFault } = this.#options
    const late = (records?.all() ?? []).filter(
      ({ told, revision, recipients, since }) =>
        clock.now() - since > unescrowedMs && (told < revision || recipients.recovery.length === 0)
    )
    if (late.length === 0) return []
    const fault = policyFault()
    const why = new Map(
      late.map(({ vm, fault: own }) => [vm, own ?? fault ?? 'the scheduler has not acknowledged it'] as const)
    )
    return [...why].map(([vm, text]) => ({ vm, why: text }))
  }
}

function nameOf({ specification }: VmRecord): string {
  return specification.name
}
