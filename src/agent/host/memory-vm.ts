// One VM of the hypervisor in memory.

import { HostletError } from '../../errors.ts'
import type { DomainCounters, HypervisorFacts, VmDefinition, VmRecord } from './hypervisor.ts'

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

export function factsOf(pool: { capacityBytes: number; availableBytes: number }): HypervisorFacts {
  return {
    libvirtVersion: '9.0.0',
    hypervisorVersion: '7.2.0',
    accelerator: 'tcg',
    architecture: 'x86_64',
    poolCapacityBytes: pool.capacityBytes,
    poolAvailableBytes: pool.availableBytes
  }
}

export function countersOf({ definition: { specification }, state }: MemoryVm): DomainCounters {
  const { name, uuid, memoryBytes } = specification
  return {
    name,
    uuid,
    state,
    ...(state === 'running' && { cpuNanoseconds: 0, memoryMaximumBytes: memoryBytes })
  }
}

/** As libvirt, which starts nothing whose keys it has not been told. */
export function requireSecrets({ definition }: MemoryVm, secrets: ReadonlyMap<string, string>): void {
  const { rootKey, dataKey } = definition.placement
  for (const id of [rootKey, dataKey]) {
    if (id !== undefined && !secrets.has(id))
      throw new HostletError('E_LIBVIRT', `Secret not found: no secret with matching uuid '${id}'`)
  }
}
