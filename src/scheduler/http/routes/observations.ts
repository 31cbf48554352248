// What was observed across the fleet: the newest figures of everything, and VM events.

import {
  EventList,
  EventQuery,
  LatestMetrics,
  LatestMetricsQuery,
  listItemsMax
} from '../../../protocol/api.ts'
import { hostView } from '../../views/host-view.ts'
import { present } from '../../views/operation-view.ts'
import { vmView } from '../../views/vm-view.ts'
import { listItemsDefault } from '../lookup.ts'
import { defineRoute } from '../route.ts'

export const observationRoutes = [
  defineRoute('GET /v1/metrics/latest', {
    tier: 'read',
    summary: 'The newest sample of every host and VM, or of those that are asked for',
    query: LatestMetricsQuery,
    reply: LatestMetrics,
    handle: async ({ query: { of, limit, ...filter } }, { store, clock }) => {
      const hosts = of === 'vms' ? [] : (await store.hosts.list(listItemsMax)).items
      const ofHosts = of === 'vms' ? undefined : await store.metrics.latestOfHosts()
      const { items: vms, more } =
        of === 'hosts' ? { items: [], more: false } : await store.vms.list(filter, limit ?? listItemsMax)
      return {
        now: clock.now(),
        hosts: hosts.map((host) => ({ host: hostView(host), ...present({ ...ofHosts?.get(host.id) }) })),
        vms: await Promise.all(
          vms.map(async (vm) => ({ vm: vmView(vm), ...present({ ...(await store.metrics.latestOfVm(vm)) }) }))
        ),
        more
      }
    }
  }),

  defineRoute('GET /v1/events', {
    tier: 'read',
    summary: 'VM events after a sequence number, oldest first',
    query: EventQuery,
    reply: EventList,
    handle: async ({ query: { after = 0, vm, newest, limit } }, { store }) => {
      const { items, more } = await store.events.list({ after, vm, newest }, limit ?? listItemsDefault)
      return { events: [...items], last: items.at(-1)?.sequence ?? after, more }
    }
  })
]
