// Work on the backups of one VM from the command line, while nobody else may change them.

import { hostname } from 'node:os'
import type { Vault } from '../../backup/vault/vault.ts'
import type { Cli } from '../cli.ts'

/** Long enough to take over from a holder that died. */
const waitMs = 180_000

/** `signal` is also aborted when the lock is lost; `confirm` looks whether it is held, ahead of what cannot be undone. */
export async function withLock<Value>(
  { cli, vault, what, signal }: { cli: Cli; vault: Vault; what: string; signal: AbortSignal },
  work: (held: { readonly signal: AbortSignal; confirm(): Promise<void> }) => Promise<Value>
): Promise<Value> {
  const { acquireLock } = await import('../../backup/repository/lock.ts')
  await using lock = await acquireLock(vault.store, {
    name: `vms/${vault.vm}/locks`,
    holder: { host: hostname(), instance: what },
    ...{ clock: cli.clock, signal, waitMs }
  })
  return await work({ signal: AbortSignal.any([signal, lock.signal]), confirm: () => lock.confirm() })
}
