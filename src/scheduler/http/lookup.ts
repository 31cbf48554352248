// Finding what a path names, or E_NOT_FOUND with where to look.

import { HostletError } from '../../errors.ts'
import type { BackupEntry } from '../store/backup-store.ts'
import type { CommandRecord, HostRecord, Store, VmRecord } from '../store/store.ts'

/** Items of a list when the asker gives no limit. */
export const listItemsDefault = 100

/** Hosts or VMs that are looked at for one decision or count. */
export const fleetItemsMax = 100_000

export async function findHost(store: Store, id: string): Promise<HostRecord> {
  return (await store.hosts.find(id)) ?? missing(`host ${id} is not enrolled here`, 'hostlet host ls')
}

export async function findVm(store: Store, name: string): Promise<VmRecord> {
  return (await store.vms.find(name)) ?? missing(`there is no VM ${name}`, 'hostlet vm ls')
}

export async function findCommand(store: Store, id: string): Promise<CommandRecord> {
  return (await store.commands.find(id)) ?? missing(`there is no operation ${id}`, 'hostlet op ls')
}

export async function findBackup(store: Store, snapshot: string): Promise<BackupEntry> {
  return (
    (await store.backups.find(snapshot)) ??
    missing(`there is no backup ${snapshot} that this scheduler knows`, 'hostlet backup ls')
  )
}

function missing(what: string, command: string): never {
  throw new HostletError('E_NOT_FOUND', `${what}. See "${command}" for those that there are.`)
}
