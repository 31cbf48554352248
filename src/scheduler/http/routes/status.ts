// Health, the state of the whole fleet in numbers, and the description of the API.

import { Type } from '../../../lib/schema.ts'
import { HealthView, StatusView } from '../../../protocol/api.ts'
import { protocolVersion } from '../../../protocol/messages.ts'
import { hostView } from '../../views/host-view.ts'
import { vmView } from '../../views/vm-view.ts'
import { fleetItemsMax } from '../lookup.ts'
import { defineRoute } from '../route.ts'

export const statusRoutes = [
  defineRoute('GET /healthz', {
    tier: 'open',
    summary: 'Whether the scheduler answers and its store can be read',
    reply: HealthView,
    handle: async (_call, { store }) => {
      await store.keys.count()
      return { status: 'ok' as const }
    }
  }),

  defineRoute('GET /openapi.json', {
    tier: 'open',
    summary: 'This description',
    reply: Type.Record(Type.String(), Type.Unknown()),
    handle: async (_call, { openApi }) => openApi()
  }),

  defineRoute('GET /v1/status', {
    tier: 'read',
    summary: 'The fleet in numbers',
    reply: StatusView,
    handle: async (_call, { store, clock, config, authority, version, startedAt }) => {
      const hosts = (await store.hosts.list(fleetItemsMax)).items.map(hostView)
      const vms = (await store.vms.list({}, fleetItemsMax)).items.map(vmView).filter(isCounted)
      const inState = (state: string) => hosts.filter((host) => host.state === state).length
      return {
        version,
        protocol: protocolVersion,
        trustDomain: config.trustDomain,
        caHash: authority.caHash,
        now: clock.now(),
        startedAt,
        hosts: { total: hosts.length, connected: inState('connected'), away: inState('away') },
        vms: { total: vms.length, running: vms.filter(({ state }) => state === 'running').length },
        operations: { open: await store.commands.countOpen() },
        retainDays: config.vms.retainDays
      }
    }
  })
]

/** One that was torn down and is only kept is not one of the fleet's VMs. */
function isCounted({ state }: { state: string }): boolean {
  return state !== 'retained'
}
