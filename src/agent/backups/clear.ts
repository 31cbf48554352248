// Removes what backups have left of a VM, once a backup that is just ending with its VM has ended.

import { asHostletError } from '../../errors.ts'
import type { Clock } from '../../lib/clock.ts'
import type { Hypervisor, Wait } from '../host/hypervisor.ts'

const pollMs = 250
/** A backup whose VM is off sees it at once, and ends. */
export const endingMsMax = 60_000

/** Job, scratch files and sockets, not the checkpoints, of a VM that is off. Throws E_BUSY when a backup does not end. */
export async function clearWhenFree(
  { hypervisor, clock }: { hypervisor: Pick<Hypervisor, 'clearBackup' | 'listCheckpoints'>; clock: Clock },
  vm: string,
  wait: Wait
): Promise<readonly string[]> {
  const startedAt = clock.monotonic()
  for (;;) {
    try {
      return await hypervisor.clearBackup(vm, await hypervisor.listCheckpoints(vm, wait), wait)
    } catch (error) {
      const late = clock.monotonic() - startedAt >= endingMsMax
      if (late || asHostletError(error).code !== 'E_BUSY') throw error
      await clock.sleep(pollMs, wait.signal)
    }
  }
}
