// The part of the hypervisor port that foresees: what a definition would become, without anything becoming so.

import type { Placement, VmChange, VmDefinition, VmRecord, Wait } from './hypervisor.ts'
import type { VmShape } from './shape-port.ts'

/** What is to be foreseen of a VM's definition. */
export type DraftChange =
  /** A new VM, as it is once it is made: without a medium in the drive of its seed. */
  | { readonly kind: 'new'; readonly definition: VmDefinition }
  | {
      readonly kind: 'change'
      readonly name: string
      readonly shape?: VmShape
      readonly change?: VmChange
      /** Other disks: see DiskSwap. */
      readonly disks?: Pick<VmRecord, 'specification'> & { readonly placement: Placement }
    }
  | { readonly kind: 'removal'; readonly name: string }

/**
 * Definitions in one form of their own, so that what differs is what was changed: an element a line, attributes in order,
 * metadata spread out. Absent where there is none.
 */
export interface Draft {
  readonly before?: string
  readonly after?: string
}

export interface PlanHypervisor {
  /** Changes nothing. Throws E_NOT_FOUND, and E_CONFLICT for a foreign domain, where a VM is to be changed or removed. */
  draft(change: DraftChange, wait: Wait): Promise<Draft>
}
