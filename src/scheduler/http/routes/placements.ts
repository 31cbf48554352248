// Where VMs may stand: labels of hosts, why a VM stands where it does, and where one would.

import { HostletError } from '../../../errors.ts'
import { Type } from '../../../lib/schema.ts'
import { CommandId, strict } from '../../../protocol/names.ts'
import { LabelsReply, LabelsRequest, PlacementReply, PlacementRequest } from '../../../protocol/placement.ts'
import { explain } from '../../placement/place.ts'
import { findCommand, findHost } from '../lookup.ts'
import { askedOf } from '../room.ts'
import { defineRoute } from '../route.ts'
import { HostParams } from './hosts.ts'

const OperationParams = Type.Object({ id: CommandId }, strict)

export const placementRoutes = [
  defineRoute('PUT /v1/hosts/{id}/labels', {
    tier: 'manage',
    summary: 'Set and remove labels of a host',
    params: HostParams,
    body: LabelsRequest,
    reply: LabelsReply,
    handle: async ({ params: { id }, body }, { store, log }) => {
      await findHost(store, id)
      const { set = {}, remove = [] } = body
      const both = remove.find((key) => set[key] !== undefined)
      if (both !== undefined)
        throw new HostletError(
          'E_BAD_REQUEST',
          `label ${both} is to be set and to be removed. Ask for one of them.`
        )
      const labels = await store.placements.label(id, { set, remove })
      log.info({ host: id, set: Object.keys(set), removed: remove }, 'labels of a host changed')
      return { labels }
    }
  }),

  defineRoute('GET /v1/operations/{id}/placement', {
    tier: 'read',
    summary: 'Why the VM that an operation made stands on its host',
    params: OperationParams,
    reply: PlacementReply,
    handle: async ({ params: { id } }, { store }) => {
      const { verb } = await findCommand(store, id)
      const placement = await store.placements.of(id)
      if (placement !== undefined) return { placement }
      throw new HostletError(
        'E_NOT_FOUND',
        `operation ${id} (${verb}) chose no host: only vm.provision and vm.restore of a new VM do.`
      )
    }
  }),

  defineRoute('POST /v1/placements', {
    tier: 'read',
    summary: 'Where a VM would stand, and why; nothing is made and no room is kept',
    body: PlacementRequest,
    reply: PlacementReply,
    handle: async ({ body: { verb = 'vm.provision', ...wanted } }, services) => ({
      placement: explain(await askedOf(services, { wanted: { ...wanted, verb } }))
    })
  })
]
