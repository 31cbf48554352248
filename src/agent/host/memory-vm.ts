// One VM of the hypervisor in memory.

import type { VmDefinition, VmRecord } from './hypervisor.ts'

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
