// Tells when the health of a service changes: an event at once, and a look at all VMs soon after, one for many changes.

import type { Clock } from '../../lib/clock.ts'
import type { VmEvent } from '../../protocol/messages.ts'
import type { HealthProbes } from '../guest/health-probes.ts'

/** Services often fail together: one look tells of all. */
export const gatherMs = 2_000

export interface HealthEventsOptions {
  readonly probes: Pick<HealthProbes, 'onChange'>
  readonly clock: Clock
  post(event: VmEvent): void
  lookAnew(): void
}

export function reportHealth({ probes, clock, post, lookAnew }: HealthEventsOptions): Disposable {
  let due: Disposable | undefined
  const listener = probes.onChange(({ vm, uuid, health: { name, state, since } }) => {
    due ??= clock.timer(gatherMs, () => {
      due = undefined
      lookAnew()
    })
    // A machine that went off has an event of its own.
    if (state === 'unknown') return
    const detail = `service ${name} is ${state}`
    post({ type: 'event', at: since, vm, uuid, kind: 'changed', state: 'running', detail })
  })
  return {
    [Symbol.dispose]: () => {
      due?.[Symbol.dispose]()
      listener[Symbol.dispose]()
    }
  }
}
