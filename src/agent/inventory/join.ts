// Joins what is accounted for of VMs to the rest of the agent.

import { asHostletError } from '../../errors.ts'
import type { Clock } from '../../lib/clock.ts'
import type { Logger } from '../../lib/log.ts'
import type { DriftItem } from '../../protocol/drift.ts'
import type { VmSummary } from '../../protocol/vm.ts'
import type { KnownVms } from './known-vms.ts'

/** How long it is told that VMs came without a record of them. */
export const adoptedToldMs = 7 * 24 * 3_600_000

/** An inventory was taken. What cannot be written now is written with the next. */
export function noteVms(known: KnownVms, vms: readonly VmSummary[], log: Logger): void {
  try {
    const adopted = known.note(vms).map(({ name }) => name)
    if (adopted.length > 0)
      log.warn(
        { count: adopted.length, vms: adopted.slice(0, 20) },
        'VMs taken over from libvirt, without a record of them on this host'
      )
  } catch (error) {
    log.warn({ error: asHostletError(error) }, 'VMs of this host could not be noted')
  }
}

export function adoptedNames(known: KnownVms, clock: Pick<Clock, 'now'>): readonly string[] {
  return known.adoptedSince(clock.now() - adoptedToldMs).map(({ name }) => name)
}

export function withDrift(vm: VmSummary, drift: readonly DriftItem[] | undefined): VmSummary {
  return drift === undefined ? vm : { ...vm, drift: [...drift] }
}
