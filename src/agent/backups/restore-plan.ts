// What a restore is to make: chosen once, from the manifest, and kept in the notes of its operation.

import { HostletError } from '../../errors.ts'
import type { DiskRole } from '../../protocol/backup.ts'
import { compile } from '../../protocol/validate.ts'
import { VmSpecification } from '../../protocol/vm.ts'
import type { Host } from '../host/host.ts'
import type { Wait } from '../host/hypervisor.ts'
import type { Operation, Step } from '../operations/verb.ts'
import type { ChosenSnapshot, SnapshotQuery } from './catalog.ts'
import { isRole } from './snapshot-record.ts'

export interface DiskToRestore {
  readonly role: DiskRole
  readonly sizeBytes: number
  readonly allocatedBytes: number
}

/** What the first step leaves behind. */
export interface RestorePlan {
  readonly snapshot: string
  readonly at: number
  readonly freshness: string
  readonly disks: readonly DiskToRestore[]
  /** Of the VM as it will be. */
  readonly specification: VmSpecification
}

const checkSpecification = compile(VmSpecification, 'the specification in the backup')

/** Looks the snapshot up, and what it holds. */
export async function lookUp(
  params: SnapshotQuery,
  host: Host,
  wait: Wait
): Promise<Omit<RestorePlan, 'specification'> & { readonly backedUp: VmSpecification }> {
  await using chosen = await host.backups.catalog.choose(params, wait)
  const { id, body } = chosen.chosen
  return {
    snapshot: id,
    at: body.at,
    freshness: chosen.freshness,
    disks: disksOf(chosen),
    backedUp: checkSpecification(body.vm.specification)
  }
}

export function sizeOf(disks: readonly DiskToRestore[], role: DiskRole): number | undefined {
  return disks.find((disk) => disk.role === role)?.sizeBytes
}

/** A disk too many would leave other VMs without room to write. Throws E_CAPACITY, E_UNAVAILABLE while the pool's room is not known. */
export async function requireRoom(
  disks: readonly DiskToRestore[],
  host: { readonly hypervisor: Pick<Host['hypervisor'], 'facts'> },
  wait: Wait
): Promise<void> {
  const { poolAvailableBytes, poolCapacityBytes } = await host.hypervisor.facts(wait)
  if (poolCapacityBytes === 0)
    throw new HostletError(
      'E_UNAVAILABLE',
      'how much room the pool has is not known: its storage has not answered yet. See "hostlet doctor" on the host, and ask again.'
    )
  const neededBytes = disks.reduce((sum, { allocatedBytes }) => sum + allocatedBytes, 0)
  if (neededBytes <= poolAvailableBytes) return
  throw new HostletError(
    'E_CAPACITY',
    `the pool has ${poolAvailableBytes} bytes left, the restored disks need ${neededBytes}. Make room, or use another host.`,
    { details: { poolAvailableBytes, neededBytes } }
  )
}

/** The plan of an operation whose first step is done. */
export function planOf({ notes }: Pick<Operation, 'notes'>): RestorePlan {
  return notes as unknown as RestorePlan
}

/** A step that is made of what the first one left behind; there is nothing to undo where that did not come to its end. */
export function lazily(name: string, make: (plan: RestorePlan) => Step): Step {
  return {
    name,
    apply: async (operation) => (await make(planOf(operation)).apply(operation)) ?? undefined,
    undo: async (operation) => {
      if (operation.notes.specification !== undefined) await make(planOf(operation)).undo?.(operation)
    }
  }
}

function disksOf({ chosen }: ChosenSnapshot): DiskToRestore[] {
  return chosen.body.disks.flatMap(({ role, sizeBytes, allocatedBytes }) =>
    isRole(role) ? [{ role, sizeBytes, allocatedBytes }] : []
  )
}
