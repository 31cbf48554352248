// Joins the custody of keys to the policy of the host and to the rest of the keys.

import { asHostletError, type ErrorReport, HostletError } from '../../errors.ts'
import type { Logger } from '../../lib/log.ts'
import { loadRecipients } from '../backups/credentials.ts'
import { loadPolicy } from '../policy/policy.ts'
import type { DiskKeys } from './disk-keys.ts'
import type { EscrowRecords } from './escrow-records.ts'
import { KeyEscrow, type KeyEscrowOptions } from './key-escrow.ts'
import { keysAway } from './key-requests.ts'
import type { DiskKeySource } from './key-supply.ts'
import { KeyWatch, type KeyWatchOptions } from './key-watch.ts'

interface Policy {
  readonly policyPath: string
  readonly credentialsDirectory?: string | undefined
}

type EscrowOptions = Omit<KeyEscrowOptions, 'records' | 'recipients'> &
  Policy & { readonly escrow?: EscrowRecords | undefined }

/** None without records. Throws E_INTERNAL where keys lie at the scheduler and nothing is remembered of them. */
export function createEscrow(options: EscrowOptions): KeyEscrow | undefined {
  const { escrow: records, policyPath } = options
  if (records !== undefined)
    return new KeyEscrow({
      ...options,
      records,
      recipients: async (vm) => await loadRecipients(loadPolicy(policyPath), vm, options)
    })
  if (options.place === 'host') return undefined
  throw new HostletError('E_INTERNAL', 'keys at the scheduler are not remembered')
}

export function createWatch(
  options: Omit<KeyWatchOptions, 'records' | 'has' | 'policyFault'> &
    Policy & { readonly escrow?: EscrowRecords | undefined; readonly disks: DiskKeys }
): KeyWatch {
  const { escrow: records, disks, policyPath } = options
  return new KeyWatch({
    ...options,
    records,
    has: (id) => disks.has(id),
    policyFault: () => faultOf(policyPath)
  })
}

/** Says what to do where a key is nowhere to be had. */
export function diskKeySource(disks: DiskKeys): DiskKeySource {
  return {
    passphrase: async (id, { name }, wait) => {
      try {
        return await disks.unwrap(id, wait)
      } catch (error) {
        throw withNextStep(error, name)
      }
    }
  }
}

/** The scheduler is there (again): it is told what it does not know yet, and VMs that waited for it start. */
export function keysOnline(
  keys: { readonly watch: Pick<KeyWatch, 'awaited'>; online(): Promise<void> },
  keeper: { reconcile(): void },
  log: Logger
): void {
  if (keys.watch.awaited.length > 0) keeper.reconcile()
  keys
    .online()
    .catch((error) => log.warn({ error: asHostletError(error) }, 'keys could not be looked at anew'))
}

/** VMs that only the scheduler's absence kept from starting. */
export function awaitingKeys(
  failed: readonly { readonly vm: string; readonly error: ErrorReport }[]
): string[] {
  return failed.filter(({ error }) => error.details?.reason === keysAway).map(({ vm }) => vm)
}

function withNextStep(error: unknown, vm: string): unknown {
  if (!(error instanceof HostletError)) return error
  if (error.code === 'E_CONFLICT')
    return new HostletError(
      'E_CONFLICT',
      `an operator withholds the keys of VM ${vm}: it cannot be started. Give them out with "hostlet vm keys ${vm} --release".`,
      { cause: error, details: { vm } }
    )
  if (error.code !== 'E_NOT_FOUND' && error.code !== 'E_AUTH') return error
  return new HostletError(
    'E_NOT_FOUND',
    `the keys of the disks of VM ${vm} are not on this host (${error.message}) Bring them back with "hostlet vm recover-keys ${vm} --key recovery.jwk", or restore the VM from a backup.`,
    { cause: error, details: { vm } }
  )
}

function faultOf(policyPath: string): string | undefined {
  try {
    return loadPolicy(policyPath).recovery.length > 0 ? undefined : 'the policy names no recovery key'
  } catch (error) {
    return error instanceof HostletError ? error.message : String(error)
  }
}
