// Who else has a share in the keys of disks: keeps a second copy of each, or, where the host keeps none itself, the only one.

import type { Wait } from '../host/hypervisor.ts'
import type { StoredDiskKey } from './disk-keys.ts'

export interface KeyCustody {
  /** A key is new, or may change what opens its disk. It counts once this resolves; what it throws keeps it from counting. */
  kept(key: StoredDiskKey): Promise<void>
  /** Something of it is new that need not be waited for. */
  changed(key: StoredDiskKey): void
  /** A key is about to be destroyed, or all of a VM: durable when it returns. Returns the ids of those that it knew. */
  gone(key: { readonly id?: string; readonly uuid?: string }): readonly string[]
  /**
   * A key that lies elsewhere; undefined where what is here counts. Throws E_UNAVAILABLE when it cannot be asked for,
   * E_CONFLICT when it is withheld, E_NOT_FOUND when nobody has it.
   */
  fetch?(id: string, wait?: Wait): Promise<StoredDiskKey | undefined>
}
