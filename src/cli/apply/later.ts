// What an apply changed that a VM that runs does not have yet.

import type { OperationView } from '../../protocol/api.ts'
import { sizeWords, type VmResizeResult } from '../../protocol/resize.ts'

/** Nothing of one that is off, or was switched off after its sizes changed. A reboot of the guest alone is no start. */
export function laterRemarks(vm: string, ended: readonly OperationView[]): string[] {
  const isRestarted = ended.some(({ verb }) => verb === 'vm.stop' || verb === 'vm.reimage')
  const resized = ended.find(({ verb }) => verb === 'vm.resize')?.value as Partial<VmResizeResult> | undefined
  const state = resized?.vm?.state
  if (isRestarted || state === 'stopped' || state === 'crashed') return []
  const later = (resized?.changes ?? []).filter(({ applied }) => applied === 'next start')
  if (later.length === 0) return []
  const what = later.map((change) => sizeWords[change.what]).join(', ')
  return [`VM ${vm}: ${what}: from its next start on: hostlet vm stop ${vm} && hostlet vm start ${vm}`]
}
