// Keys of disks: which there are, whether they are given out, and their way back to a host that has lost them.

import { Type } from '../../../lib/schema.ts'
import {
  AdoptKeysRequest,
  BackupSource,
  DiskKeyList,
  DiskKeyQuery,
  EmptyRequest,
  OperationReply,
  VmDiskKeys,
  VmDiskKeysQuery
} from '../../../protocol/api.ts'
import { strict, VmName } from '../../../protocol/names.ts'
import { diskKeyView } from '../../views/disk-key-view.ts'
import { present } from '../../views/operation-view.ts'
import { askOfVm } from '../ask.ts'
import { findKeyOwner } from '../key-owner.ts'
import { listItemsDefault } from '../lookup.ts'
import { defineRoute, type Services } from '../route.ts'

/** A UUID also means a VM that is gone or has another name by now. */
const OwnerParams = Type.Object({ name: BackupSource }, strict)
const VmParams = Type.Object({ name: VmName }, strict)

// All of tier admin: whoever holds a recovery key needs nothing but these answers to open the disks.
export const diskKeyRoutes = [
  defineRoute('GET /v1/disk-keys', {
    tier: 'admin',
    summary: 'List keys of disks, as their hosts wrapped them',
    query: DiskKeyQuery,
    reply: DiskKeyList,
    handle: async ({ query: { limit, ...filter } }, { store }) => {
      const { items, more } = await store.diskKeys.list(filter, limit ?? listItemsDefault)
      return { keys: items.map(diskKeyView), more }
    }
  }),

  defineRoute('GET /v1/vms/{name}/disk-keys', {
    tier: 'admin',
    summary: 'The keys of a VM’s disks, wrapped for the recovery keys; by UUID also of a VM that is gone',
    params: OwnerParams,
    query: VmDiskKeysQuery,
    reply: VmDiskKeys,
    handle: async ({ params, query }, { store }) => keysOf(store, params.name, query)
  }),

  defineRoute('POST /v1/vms/{name}/disk-keys/withhold', {
    tier: 'admin',
    summary: 'Give out no key of a VM: where its host keeps none itself, the VM cannot be started any more',
    params: OwnerParams,
    body: EmptyRequest,
    reply: VmDiskKeys,
    handle: async ({ params, actor }, { store, clock, log }) => {
      const { vm, uuid } = await findKeyOwner(store, params.name)
      await store.diskKeys.hold(uuid, { at: clock.now(), by: actor?.id ?? '' })
      log.info({ vm, uuid, actor: actor?.id }, 'keys of a VM are withheld')
      return keysOf(store, uuid)
    }
  }),

  defineRoute('POST /v1/vms/{name}/disk-keys/release', {
    tier: 'admin',
    summary: 'Give out the keys of a VM again',
    params: OwnerParams,
    body: EmptyRequest,
    reply: VmDiskKeys,
    handle: async ({ params, actor }, { store, log }) => {
      const { vm, uuid } = await findKeyOwner(store, params.name)
      await store.diskKeys.hold(uuid, undefined)
      log.info({ vm, uuid, actor: actor?.id }, 'keys of a VM are given out again')
      return keysOf(store, uuid)
    }
  }),

  defineRoute('POST /v1/vms/{name}/adopt-keys', {
    tier: 'admin',
    summary: 'Hand a VM’s keys back to its host, each wrapped for the key in the host’s facts',
    status: 202,
    params: VmParams,
    body: AdoptKeysRequest,
    reply: OperationReply,
    handle: (call, services) =>
      askOfVm(services, call, {
        verb: 'vm.adopt-keys',
        intent: { kind: 'none' },
        arguments: { keys: call.body.keys }
      })
  })
]

async function keysOf(
  store: Services['store'],
  named: string,
  { limit, removed }: VmDiskKeysQuery = {}
): Promise<VmDiskKeys> {
  const { vm, uuid } = await findKeyOwner(store, named)
  const { items, more } = await store.diskKeys.list({ uuid, removed }, limit ?? listItemsDefault)
  const hold = await store.diskKeys.holdOf(uuid)
  return { vm, uuid, ...present({ withheldAt: hold?.at }), keys: items.map(diskKeyView), more }
}
