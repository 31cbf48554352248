// What happens to VMs, told in the order in which it happened, each with the state that the VM is in.

import type { Clock } from '../../lib/clock.ts'
import { startDeadline } from '../../lib/deadline.ts'
import type { Logger } from '../../lib/log.ts'
import type { VmEvent } from '../../protocol/messages.ts'
import type { VmState } from '../../protocol/vm.ts'
import type { DomainEvent, Hypervisor } from '../host/hypervisor.ts'

/** Events that wait for a look at their VM; more are told with the state that they imply. */
export const waitingEventsMax = 256
/** An event arrives at the scheduler within a second, so a look may not take longer. */
export const stateDeadlineMs = 500
const detailCharactersMax = 256

const impliedStates: Readonly<Record<DomainEvent['kind'], VmState>> = {
  defined: 'stopped',
  undefined: 'stopped',
  started: 'running',
  suspended: 'paused',
  resumed: 'running',
  stopped: 'stopped',
  shutdown: 'stopping',
  crashed: 'crashed',
  rebooted: 'running',
  'io-error': 'unknown'
}

/** Many VMs often change together: one look at all of them tells of all. */
export const gatherMs = 2_000

export interface VmEventsOptions {
  readonly hypervisor: Pick<Hypervisor, 'findVm'>
  readonly clock: Clock
  readonly log: Logger
  post(event: VmEvent): void
  /** What the scheduler shows of VMs is what the last look saw. */
  lookAnew(): void
}

export class VmEvents implements Disposable {
  readonly #options: VmEventsOptions
  #last: Promise<void> = Promise.resolve()
  #waiting = 0
  #due: Disposable | undefined

  constructor(options: VmEventsOptions) {
    this.#options = options
  }

  /** Takes an event of one of our VMs. Returns at once. */
  take(event: DomainEvent): void {
    const { log } = this.#options
    log.info({ vm: event.name, uuid: event.uuid, kind: event.kind, detail: event.detail }, 'VM event')
    const look = this.#waiting < waitingEventsMax && event.kind !== 'undefined'
    this.#waiting++
    this.#last = this.#last.then(() => this.#tell(event, look)).finally(() => this.#waiting--)
    this.#lookSoon()
  }

  [Symbol.dispose](): void {
    this.#due?.[Symbol.dispose]()
  }

  #lookSoon(): void {
    this.#due ??= this.#options.clock.timer(gatherMs, () => {
      this.#due = undefined
      this.#options.lookAnew()
    })
  }

  async #tell(event: DomainEvent, look: boolean): Promise<void> {
    const state = (look ? await this.#stateOf(event.name) : undefined) ?? impliedStates[event.kind]
    this.#options.post({
      type: 'event',
      at: event.at,
      vm: event.name,
      uuid: event.uuid,
      kind: event.kind,
      state,
      detail: event.detail.slice(0, detailCharactersMax)
    })
  }

  async #stateOf(name: string): Promise<VmState | undefined> {
    const { clock, hypervisor, log } = this.#options
    using deadline = startDeadline({ clock, ms: stateDeadlineMs, what: `the state of ${name}` })
    try {
      return (await hypervisor.findVm(name, { signal: deadline.signal }))?.state
    } catch (error) {
      log.debug({ vm: name, error }, 'state after an event is not known')
      return undefined
    }
  }
}
