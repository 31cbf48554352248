// Hosts: list, look, revoke, and what one can ask of them.

import { HostletError } from '../../../errors.ts'
import { type Static, Type } from '../../../lib/schema.ts'
import {
  DrainRequest,
  DryRunRequest,
  EmptyRequest,
  HostDetail,
  HostList,
  HostMetrics,
  HostQuery,
  listItemsMax,
  MetricsQuery,
  OperationReply,
  PrefetchRequest,
  Removed,
  Settled
} from '../../../protocol/api.ts'
import { HostId, strict } from '../../../protocol/names.ts'
import { keptVmsMax } from '../../../protocol/orphans.ts'
import { labelsOf } from '../../placement/candidate.ts'
import type { Store } from '../../store/store.ts'
import { hostView } from '../../views/host-view.ts'
import { assertTier } from '../api-keys.ts'
import { ask, askHost } from '../ask.ts'
import { findHost, fleetItemsMax, listItemsDefault } from '../lookup.ts'
import { defineRoute } from '../route.ts'

export const HostParams = Type.Object({ id: HostId }, strict)
export type HostParams = Static<typeof HostParams>

export const hostRoutes = [
  defineRoute('GET /v1/hosts', {
    tier: 'read',
    summary: 'List hosts',
    query: HostQuery,
    reply: HostList,
    handle: async ({ query: { label } }, { store }) => {
      const { items } = await store.hosts.list(fleetItemsMax)
      const pairs = label?.split(',').map((pair) => pair.split('=')) ?? []
      const found = items.filter((host) => {
        const labels = labelsOf(host)
        return pairs.every(([key = '', value]) => labels[key] === value)
      })
      return { hosts: found.slice(0, listItemsMax).map(hostView), more: found.length > listItemsMax }
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

  defineRoute('POST /v1/hosts/{id}/settle', {
    tier: 'admin',
    summary: 'Let a host connect again that two machines had claimed to be, once one of them is gone',
    params: HostParams,
    body: EmptyRequest,
    reply: Settled,
    handle: async ({ params: { id } }, { store, log }) => {
      await findHost(store, id)
      if (!(await store.hosts.settled(id)))
        throw new HostletError(
          'E_CONFLICT',
          `there is nothing to settle: no two machines were seen to use the identity of host ${id}`
        )
      log.info({ host: id }, 'cloned host settled')
      return { settled: true as const }
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
      const range = { since: query.sinceMs ?? 0, step: query.stepMs, limit: query.limit ?? listItemsDefault }
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
    handle: (call, services) => askHost(services, call, 'image.prefetch', { image: call.body })
  }),

  defineRoute('POST /v1/hosts/{id}/vms', {
    tier: 'manage',
    summary: 'Have a host list its VMs as they are now, and the domains that are not ours',
    status: 202,
    params: HostParams,
    body: EmptyRequest,
    reply: OperationReply,
    handle: (call, services) => askHost(services, call, 'vm.list')
  }),

  defineRoute('POST /v1/hosts/{id}/refresh', {
    tier: 'manage',
    summary: 'Have a host look at itself anew',
    status: 202,
    params: HostParams,
    body: EmptyRequest,
    reply: OperationReply,
    handle: (call, services) => askHost(services, call, 'host.facts')
  }),

  defineRoute('POST /v1/hosts/{id}/clean', {
    tier: 'manage',
    summary:
      'Have a host remove what VMs that are gone left there, as far as it is provably so; with `dryRun` say what would go. Without it takes tier admin',
    status: 202,
    params: HostParams,
    body: DryRunRequest,
    reply: OperationReply,
    handle: ({ params: { id }, body, repeatable, actor }, services) => {
      const dryRun = body.dryRun === true
      if (!dryRun && actor !== undefined) assertTier(actor, 'admin')
      return ask(services, repeatable, async () => ({
        verb: 'host.clean',
        host: await findHost(services.store, id),
        arguments: { dryRun, keep: await vmsOf(services.store, id) },
        intent: { kind: 'none' }
      }))
    }
  }),

  defineRoute('POST /v1/hosts/{id}/rotate-key', {
    tier: 'manage',
    summary: "Replace a host's key of secrets, and wrap the keys of its disks under the new one",
    status: 202,
    params: HostParams,
    body: EmptyRequest,
    reply: OperationReply,
    handle: (call, services) => askHost(services, call, 'host.rotate-key')
  }),

  defineRoute('POST /v1/hosts/{id}/drain', {
    tier: 'manage',
    summary: 'Have a host take no new work, and tell when what it has taken is done; its VMs run on',
    status: 202,
    params: HostParams,
    body: DrainRequest,
    reply: OperationReply,
    handle: (call, services) => askHost(services, call, 'host.drain', call.body)
  }),

  defineRoute('POST /v1/hosts/{id}/resume', {
    tier: 'manage',
    summary: 'Have a host that was drained take work again',
    status: 202,
    params: HostParams,
    body: EmptyRequest,
    reply: OperationReply,
    handle: (call, services) => askHost(services, call, 'host.resume')
  })
]

/** VMs that are known to be on a host, whether or not it has reported them of late: nothing of theirs may go. */
async function vmsOf(store: Store, host: string): Promise<{ name: string; uuid: string }[]> {
  const { items, more } = await store.vms.list({ host }, keptVmsMax)
  if (!more) return items.map(({ name, uuid }) => ({ name, uuid }))
  throw new HostletError(
    'E_UNSUPPORTED',
    `host ${host} has more than ${keptVmsMax} VMs, more than one command can name as not to be touched.`
  )
}
