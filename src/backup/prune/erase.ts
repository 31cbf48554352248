// Removes everything that a repository holds of one VM: first what opens it, then what it is.

import { HostletError } from '../../errors.ts'
import type { Wait } from '../disk.ts'
import { forEachConcurrent } from '../read/concurrent.ts'
import type { ObjectStore } from '../repository/store.ts'
import { snapshotsPrefix } from '../vault/envelope.ts'

const removalsInFlightMax = 8
/** A writer that had lost its lock unseen may still add objects: they are looked for so often. */
const roundsMax = 4

export interface VaultPlace extends Wait {
  readonly store: ObjectStore
  /** UUID of the VM. */
  readonly vm: string
}

export interface EraseOptions extends VaultPlace {
  /** Looks whether the vault's lock is held at this moment, and throws when it is not. */
  readonly confirm: () => Promise<void>
}

export interface Erased {
  /** Ids of the snapshots whose manifests were removed. */
  readonly snapshots: readonly string[]
  readonly objects: number
  readonly bytes: number
}

/** Ids of the snapshots that have a manifest, readable or not. */
export async function snapshotIds({ store, vm, signal }: VaultPlace): Promise<string[]> {
  const ids: string[] = []
  for await (const { name } of store.list(snapshotsPrefix(vm), { signal })) {
    const id = snapshotOf(vm, name)
    if (id !== undefined) ids.push(id)
  }
  return ids
}

/** Whether anything of the VM is there, a lease of its lock too: that of a holder that was killed bears the VM's name. */
export async function holdsAnything({ store, vm, signal }: VaultPlace): Promise<boolean> {
  for await (const _object of store.list(placeOf(vm), { signal })) return true
  return false
}

/**
 * Needs no key. The manifests go first, each of which holds the wrapped key of all data: cut short anywhere, what is left of a
 * vault without manifests cannot be read by anybody. The caller holds the vault's lock, whose leases stay. Throws
 * E_CONFLICT when somebody goes on writing.
 */
export async function eraseVault(options: EraseOptions): Promise<Erased> {
  const { store, vm, signal, confirm } = options
  const snapshots = new Set<string>()
  let [objects, bytes] = [0, 0]
  for (let round = 0; round < roundsMax; round++) {
    const found = await listObjects(options)
    if (found.length === 0) return { snapshots: [...snapshots], objects, bytes }
    await confirm()
    const isManifest = ({ name }: { name: string }) => snapshotOf(vm, name) !== undefined
    for (const part of [found.filter(isManifest), found.filter((one) => !isManifest(one))])
      await forEachConcurrent(part, removalsInFlightMax, async ({ name, sizeBytes }) => {
        await store.remove(name, { signal })
        objects++
        bytes += sizeBytes
        const id = snapshotOf(vm, name)
        if (id !== undefined) snapshots.add(id)
      })
  }
  throw new HostletError(
    'E_CONFLICT',
    `somebody goes on writing backups of VM ${vm} to ${store.description}. Stop that, then erase again.`
  )
}

async function listObjects({ store, vm, signal }: VaultPlace) {
  const found: { name: string; sizeBytes: number }[] = []
  for await (const { name, sizeBytes } of store.list(placeOf(vm), { signal }))
    if (!isLease(vm, name)) found.push({ name, sizeBytes })
  return found
}

function placeOf(vm: string): string {
  return `vms/${vm}/`
}

function isLease(vm: string, name: string): boolean {
  return name.startsWith(`${placeOf(vm)}locks/`)
}

function snapshotOf(vm: string, name: string): string | undefined {
  const prefix = snapshotsPrefix(vm)
  return name.startsWith(prefix) && name.endsWith('.json')
    ? name.slice(prefix.length, -'.json'.length)
    : undefined
}
