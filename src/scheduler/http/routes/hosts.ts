// Hosts: list, look, revoke, and what one can ask of them.

import { HostletError } from '../../../errors.ts'
import { type Static, Type } from '../../../lib/schema.ts'
import {
  EmptyRequest,
  HostDetail,
  HostList,
  HostMetrics,
  listItemsMax,
  MetricsQuery,
  OperationReply,
  PrefetchRequest,
  Removed
} from '../../../protocol/api.ts'
import { HostId, strict } from '../../../protocol/names.ts'
import { hostView } from '../../views/host-view.ts'
import { ask } from '../ask.ts'
import { findHost, listItemsDefault } from '../lookup.ts'
import { defineRoute } from '../route.ts'

export const HostParams = Type.Object({ id: HostId }, strict)
export type HostParams = Static<typeof HostParams>

export const hostRoutes = [
  defineRoute('GET /v1/hosts', {
    tier: 'read',
    summary: 'List hosts',
    reply: HostList,
    handle: async (_call, { store }) => {
      const { items, more } = await store.hosts.list(listItemsMax)
      return { hosts: items.map(hostView), more }
    }
  }),

  defineRoute('GET /v1/hosts/{id}', {
    tier: 'read',
    summary: 'Show one host with the domains on it that are not ours',
    params: HostParams,
    reply: HostDetail,
    handle: async ({ params }, { store }) => ({
      host: hostView(await findHost(store, params.id)),
      foreign: [...(await store.hosts.foreign(params.id))]
    })
  }),

  defineRoute('DELETE /v1/hosts/{id}', {
    tier: 'admin',
    summary: 'Revoke a host: its certificate is accepted no more, its operations end, its VMs run on',
    params: HostParams,
    reply: Removed,
    handle: async ({ params: { id } }, { store, clock, commands, agents, log }) => {
      await findHost(store, id)
      const isNew = await store.hosts.revoke(id, clock.now())
      if (isNew) log.info({ host: id }, 'host revoked')
      agents.disconnect(id, 'the host was revoked')
      // Also for one that is revoked already: a scheduler that was killed in between left this undone.
      await commands.endAllOf(id)
      if (!isNew) throw new HostletError('E_CONFLICT', `host ${id} is revoked already`)
      return { removed: true as const }
    }
  }),

  defineRoute('GET /v1/hosts/{id}/metrics', {
    tier: 'read',
    summary: 'The newest samples of a host, oldest first',
    params: HostParams,
    query: MetricsQuery,
    reply: HostMetrics,
    handle: async ({ params: { id }, query }, { store }) => {
      await findHost(store, id)
      const range = { since: query.sinceMs ?? 0, limit: query.limit ?? listItemsDefault }
      return { host: id, points: [...(await store.metrics.ofHost(id, range))] }
    }
  }),

  defineRoute('POST /v1/hosts/{id}/images', {
    tier: 'manage',
    summary: 'Have a host fetch an image before it is needed',
    status: 202,
    params: HostParams,
    body: PrefetchRequest,
    reply: OperationReply,
    handle: ({ params, body, repeatable }, services) =>
      ask(services, repeatable, async () => ({
        verb: 'image.prefetch',
        host: await findHost(services.store, params.id),
        arguments: { image: body },
        intent: { kind: 'none' }
      }))
  }),

  defineRoute('POST /v1/hosts/{id}/refresh', {
    tier: 'manage',
    summary: 'Have a host look at itself anew',
    status: 202,
    params: HostParams,
    body: EmptyRequest,
    reply: OperationReply,
    handle: ({ params, repeatable }, services) =>
      ask(services, repeatable, async () => ({
        verb: 'host.facts',
        host: await findHost(services.store, params.id),
        arguments: {},
        intent: { kind: 'none' }
      }))
  }),

  defineRoute('POST /v1/hosts/{id}/rotate-key', {
    tier: 'manage',
    summary: "Replace a host's key of secrets, and wrap the keys of its disks under the new one",
    status: 202,
    params: HostParams,
    body: EmptyRequest,
    reply: OperationReply,
    handle: ({ params, repeatable }, services) =>
      ask(services, repeatable, async () => ({
        verb: 'host.rotate-key',
        host: await findHost(services.store, params.id),
        arguments: {},
        intent: { kind: 'none' }
      }))
  })
]
