// VMs that were torn down and are kept until a day: defined, off, and kept off, so that they can be had back or found and erased.

import { HostletError } from '../../errors.ts'
import type { Retained, StartGate, VmRecord } from './hypervisor.ts'

/** Asked before every start: nothing but vm.undelete makes such a VM one that runs. */
export const keepRetainedOff: StartGate = async (vm) => {
  refuseRetained(vm)
}

/** The record again. Throws E_CONFLICT for a VM that was torn down and is only kept to be erased. */
export function refuseRetained<Record extends Pick<VmRecord, 'specification' | 'retained'>>(
  record: Record
): Record {
  const { specification, retained } = record
  if (retained === undefined) return record
  throw new HostletError(
    'E_CONFLICT',
    `VM ${specification.name} was torn down and is kept ${untilText(retained)}. Have it back with "hostlet vm undelete ${specification.name}" first.`,
    { details: { vm: specification.name, retainedUntil: retained.until } }
  )
}

export function untilText({ until }: Pick<Retained, 'until'>): string {
  return `until ${new Date(until).toISOString()}`
}
