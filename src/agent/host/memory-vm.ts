// One VM of the hypervisor in memory.

import { HostletError } from '../../errors.ts'
import type { DiskRole } from '../../protocol/backup.ts'
import type { DomainCounters, HypervisorFacts, VmDefinition, VmRecord } from './hypervisor.ts'
import { isOff } from './making.ts'
import type { Tampering } from './memory-inventory.ts'

export interface MemoryVm {
  definition: VmDefinition
  state: VmRecord['state']
  reason: string
  run: number | null
  /** What it was wanted to be when it was last switched on. */
  wantedAtStart?: VmDefinition['wanted']
  tampering?: Tampering
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

/** Throws E_LIBVIRT for a machine that is off. */
export function requireOn(vm: MemoryVm): MemoryVm {
  if (!isOff(vm)) return vm
  throw new HostletError('E_LIBVIRT', `VM ${vm.definition.specification.name} is not running`)
}

/** As libvirt, which starts nothing whose keys it has not been told. */
export function requireSecrets({ definition }: MemoryVm, secrets: ReadonlyMap<string, string>): void {
  const { rootKey, dataKey } = definition.placement
  for (const id of [rootKey, dataKey]) {
    if (id !== undefined && !secrets.has(id))
      throw new HostletError('E_LIBVIRT', `Secret not found: no secret with matching uuid '${id}'`)
  }
}

/** Throws E_NOT_FOUND where a machine has no such disk. */
export function volumeOf({ definition }: MemoryVm, role: DiskRole): string {
  const { rootVolume, dataVolume } = definition.placement
  const volume = role === 'root' ? rootVolume : dataVolume
  if (volume !== null) return volume
  throw new HostletError('E_NOT_FOUND', `VM ${definition.specification.name} has no data disk`)
}

/** Throws E_CONFLICT while a machine that is on has the volume. */
export function requireUnused(vms: Iterable<MemoryVm>, volume: string): void {
  const users = [...vms].filter((vm) => !isOff(vm))
  if (users.some(({ definition }) => Object.values(definition.placement).includes(volume)))
    throw new HostletError('E_CONFLICT', `volume ${volume} is in use`)
}
