// One VM of the hypervisor in memory.

import { HostletError } from '../../errors.ts'
import type { DiskRole } from '../../protocol/backup.ts'
import type { DomainCounters, VmDefinition, VmRecord } from './hypervisor.ts'

export interface MemoryVm {
  definition: VmDefinition
  state: VmRecord['state']
  reason: string
  run: number | null
  /** What it was wanted to be when it was last switched on. */
  wantedAtStart?: VmDefinition['wanted']
}

export function isOff({ state }: MemoryVm): boolean {
  return state === 'stopped' || state === 'crashed'
}

export function recordOf({ definition, state, reason, run }: MemoryVm): VmRecord {
  const { seedPath: _unseen, ...carried } = definition
  return { ...carried, state, reason, run }
}

export function countersOf({ definition: { specification }, state }: MemoryVm): DomainCounters {
  return {
    name: specification.name,
    uuid: specification.uuid,
    state,
    ...(state === 'running' && { cpuNanoseconds: 0, memoryMaximumBytes: specification.memoryBytes })
  }
}

/** Throws E_NOT_FOUND where a machine has no such disk. */
export function volumeOf({ definition }: MemoryVm, role: DiskRole): string {
  const { rootVolume, dataVolume } = definition.placement
  const volume = role === 'root' ? rootVolume : dataVolume
  if (volume !== null) return volume
  throw new HostletError('E_NOT_FOUND', `VM ${definition.specification.name} has no data disk`)
}
