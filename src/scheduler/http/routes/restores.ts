// Restores: a VM made of a backup, on any host, or the disks of a VM put back to what they held.

import { randomUUID } from 'node:crypto'
import { HostletError } from '../../../errors.ts'
import { OperationReply, RestoreRequest } from '../../../protocol/api.ts'
import type { VmRestoreParams } from '../../../protocol/backup.ts'
import type { BackupEntry } from '../../store/backup-store.ts'
import type { HostRecord, Store } from '../../store/store.ts'
import { present } from '../../views/operation-view.ts'
import { type Ask, askPlaced } from '../ask.ts'
import { expectedOf, findSource, findTarget } from '../backup-source.ts'
import { findHost, findVm } from '../lookup.ts'
import { hostFor, wantedOf } from '../room.ts'
import { defineRoute, type Services } from '../route.ts'
import { assertFree } from './vms.ts'

/** Isolation profile of a restored VM whose specification only its backup knows; the host goes by that. */
const profileUnknown = 'starter'
/** Of a VM whose sizes only its backup knows: the host looks there. */
const sizesUnknown = { cpus: 1, memoryBytes: 0, rootDiskBytes: 0 }

export const restoreRoutes = [
  // For tier manage as provisioning and teardown are: it makes VMs and changes their disks, and removes no backup.
  defineRoute('POST /v1/restores', {
    tier: 'manage',
    summary:
      'Make a VM of a backup, under its own name or another; with `replace` put its disks into a VM that there is',
    status: 202,
    body: RestoreRequest,
    reply: OperationReply,
    handle: ({ body, repeatable }, services) => askPlaced(services, repeatable, () => plan(services, body))
  })
]

/** What both ways of restoring have in common. */
interface Chosen {
  readonly source: string
  readonly target: string
  readonly snapshot: string
  /** The snapshot, or the newest of the source, where it is known here. */
  readonly known: BackupEntry | undefined
}

async function plan(services: Services, request: RestoreRequest): Promise<Ask & { host: HostRecord }> {
  const { store } = services
  const chosen = await choose(store, request)
  const { vm, host, intent, placement } = request.replace
    ? { ...(await existing(store, request, chosen)), placement: undefined }
    : await fresh(services, request, chosen)
  const { source, target, snapshot } = chosen
  const asked: VmRestoreParams = {
    ...{ target, source, snapshot, vm: vm.name, uuid: vm.uuid },
    ...present({ profile: request.profile, replace: request.replace, start: request.start }),
    ...(await expectedOf(store, source, target))
  }
  return { verb: 'vm.restore', host, vm, arguments: asked, intent, placement }
}

/** Throws E_NOT_FOUND for a snapshot that is known to be removed, E_BAD_REQUEST for one of another VM. */
async function choose(store: Store, request: RestoreRequest): Promise<Chosen> {
  const source = await findSource(store, request.source)
  const { snapshot = 'latest' } = request
  const known = snapshot === 'latest' ? undefined : await store.backups.find(snapshot)
  if (known?.removedAt !== undefined)
    throw new HostletError(
      'E_NOT_FOUND',
      `backup ${snapshot} was removed at ${new Date(known.removedAt).toISOString()}. See "hostlet backup ls --vm ${request.source}".`
    )
  if (known !== undefined && known.record.uuid !== source)
    throw new HostletError(
      'E_BAD_REQUEST',
      `backup ${snapshot} is of VM ${known.record.vm} (${known.record.uuid}), not of ${request.source}. See "hostlet backup ls --vm ${request.source}".`
    )
  const target = known?.record.target ?? (await findTarget(store, source, request.target))
  return { source, target, snapshot, known: known ?? (await store.backups.newest(source, target)) }
}

/** The VM whose disks are replaced: its host and its UUID stay. */
async function existing(store: Store, request: RestoreRequest, { source, known }: Chosen) {
  const name = request.name ?? nameOf(request, source, known)
  const { uuid, host: id } = await findVm(store, name)
  if (request.host !== undefined && request.host !== id)
    throw new HostletError(
      'E_CONFLICT',
      `VM ${name} is on host ${id}, not on ${request.host}: its disks are replaced where it is. Leave the host out.`
    )
  const wanted = request.start === false ? ('stopped' as const) : ('running' as const)
  return { vm: { name, uuid }, host: await findHost(store, id), intent: { kind: 'want', wanted } as const }
}

async function fresh(services: Services, request: RestoreRequest, { source, target, known }: Chosen) {
  const { store } = services
  const name = request.name ?? nameOf(request, source, known)
  await assertFree(store, name, 'or restore under another name (--as), or put the disks back (--replace)')
  const uuid = randomUUID()
  const was = await store.backups.specificationOf(source)
  const profile = request.profile ?? was?.profile ?? profileUnknown
  const { host, placement } = await hostFor(services, {
    host: request.host,
    wanted: wantedOf({ ...(was ?? sizesUnknown), profile }, request.placement, 'vm.restore'),
    preferred: await store.backups.hostsOf(target)
  })
  const intent = {
    kind: 'restore',
    specification: was && { ...was, name, uuid, profile },
    profile,
    wanted: request.start === false ? 'stopped' : 'running',
    wish: request.placement
  } as const
  return { vm: { name, uuid }, host, intent, placement }
}

/** Throws E_BAD_REQUEST where nothing says how the VM was called. */
function nameOf({ source: given }: RestoreRequest, source: string, known: BackupEntry | undefined): string {
  if (given !== source) return given
  if (known !== undefined) return known.record.vm
  throw new HostletError(
    'E_BAD_REQUEST',
    `this scheduler does not know how VM ${source} was called: give a name for the restored one.`
  )
}
