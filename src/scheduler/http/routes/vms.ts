// VMs: list, look, create, and change.

import { HostletError } from '../../../errors.ts'
import { type Static, Type } from '../../../lib/schema.ts'
import {
  CreateVmRequest,
  DryRunRequest,
  EmptyRequest,
  MetricsQuery,
  OperationReply,
  RebootVmRequest,
  Removed,
  ResizeVmRequest,
  StopVmRequest,
  VmList,
  VmMetrics,
  VmQuery,
  VmReply
} from '../../../protocol/api.ts'
import { strict, VmName } from '../../../protocol/names.ts'
import type { Store } from '../../store/store.ts'
import { vmView } from '../../views/vm-view.ts'
import { askAboutVm, askOfVm, askPlaced } from '../ask.ts'
import { findVm, fleetItemsMax, listItemsDefault } from '../lookup.ts'
import { hostFor, wantedOf } from '../room.ts'
import { defineRoute, type Services } from '../route.ts'
import { needsKey, sealedSpecification, uuidFor } from '../user-data.ts'

const VmParams = Type.Object({ name: VmName }, strict)

export const vmRoutes = [
  defineRoute('GET /v1/vms', {
    tier: 'read',
    summary: 'List VMs',
    query: VmQuery,
    reply: VmList,
    handle: async ({ query: { limit, ...filter } }, { store }) => {
      const { items, more } = await store.vms.list(filter, limit ?? listItemsDefault)
      return { vms: items.map(vmView), more }
    }
  }),

  defineRoute('GET /v1/vms/{name}', {
    tier: 'read',
    summary: 'Show one VM',
    params: VmParams,
    reply: VmReply,
    handle: async ({ params }, { store }) => ({ vm: vmView(await findVm(store, params.name)) })
  }),

  defineRoute('GET /v1/vms/{name}/metrics', {
    tier: 'read',
    summary: 'The newest samples of a VM, oldest first',
    params: VmParams,
    query: MetricsQuery,
    reply: VmMetrics,
    handle: async ({ params: { name }, query }, { store }) => {
      const vm = await findVm(store, name)
      const range = { since: query.sinceMs ?? 0, step: query.stepMs, limit: query.limit ?? listItemsDefault }
      return { vm: name, points: [...(await store.metrics.ofVm(vm, range))] }
    }
  }),

  defineRoute('POST /v1/vms', {
    tier: 'manage',
    summary: 'Provision a VM',
    status: 202,
    body: CreateVmRequest,
    reply: OperationReply,
    handle: ({ body, repeatable }, services) =>
      askPlaced(services, repeatable, async () => {
        const uuid = uuidFor(body)
        await assertFree(services.store, body.specification.name)
        const { host, placement } = await placementOf(services, body)
        const specification = await sealedSpecification(body.specification, uuid, host)
        return {
          verb: 'vm.provision',
          host,
          vm: { name: specification.name, uuid: specification.uuid },
          arguments: { specification },
          intent: { kind: 'create', specification, wish: body.placement },
          placement
        }
      })
  }),

  defineRoute('POST /v1/vms/{name}/start', {
    tier: 'manage',
    summary: 'Start a VM',
    status: 202,
    params: VmParams,
    body: EmptyRequest,
    reply: OperationReply,
    handle: (call, services) =>
      askOfVm(services, call, { verb: 'vm.start', intent: { kind: 'want', wanted: 'running' } })
  }),

  defineRoute('POST /v1/vms/{name}/stop', {
    tier: 'manage',
    summary: 'Shut a VM down; its power is cut when it takes too long, or at once with `force`',
    status: 202,
    params: VmParams,
    body: StopVmRequest,
    reply: OperationReply,
    handle: (call, services) =>
      askOfVm(services, call, {
        verb: 'vm.stop',
        intent: { kind: 'want', wanted: 'stopped' },
        arguments: call.body
      })
  }),

  defineRoute('POST /v1/vms/{name}/reboot', {
    tier: 'manage',
    summary: 'Reboot a VM; with `force` as its reset button would',
    status: 202,
    params: VmParams,
    body: RebootVmRequest,
    reply: OperationReply,
    handle: (call, services) =>
      askOfVm(services, call, { verb: 'vm.reboot', intent: { kind: 'none' }, arguments: call.body })
  }),

  defineRoute('POST /v1/vms/{name}/rekey', {
    tier: 'manage',
    summary: 'Give the disks of a VM that is off new passphrases',
    status: 202,
    params: VmParams,
    body: EmptyRequest,
    reply: OperationReply,
    handle: (call, services) => askOfVm(services, call, { verb: 'vm.rekey', intent: { kind: 'none' } })
  }),

  defineRoute('POST /v1/vms/{name}/resize', {
    tier: 'manage',
    summary: 'Change the sizes and limits of a VM, at once or at its next start: the result says which',
    status: 202,
    params: VmParams,
    body: ResizeVmRequest,
    reply: OperationReply,
    handle: (call, services) =>
      askOfVm(services, call, { verb: 'vm.resize', intent: { kind: 'none' }, arguments: call.body })
  }),

  defineRoute('POST /v1/vms/{name}/refresh', {
    tier: 'manage',
    summary: "Have a VM's host look at it anew",
    status: 202,
    params: VmParams,
    body: EmptyRequest,
    reply: OperationReply,
    handle: (call, services) => askAboutVm(services, call, 'vm.state')
  }),

  defineRoute('POST /v1/vms/{name}/specification', {
    tier: 'manage',
    summary: 'Have its host tell what was asked for of a VM, as it keeps it',
    status: 202,
    params: VmParams,
    body: EmptyRequest,
    reply: OperationReply,
    handle: (call, services) => askAboutVm(services, call, 'vm.specification')
  }),

  defineRoute('POST /v1/vms/{name}/audit', {
    tier: 'manage',
    summary: "Have a VM's host look whether its isolation is as promised",
    status: 202,
    params: VmParams,
    body: EmptyRequest,
    reply: OperationReply,
    handle: (call, services) => askAboutVm(services, call, 'vm.audit')
  }),

  defineRoute('POST /v1/vms/{name}/repair', {
    tier: 'manage',
    summary:
      "Have a VM's host put right what is not as its records say; with `dryRun` say what that would be",
    status: 202,
    params: VmParams,
    body: DryRunRequest,
    reply: OperationReply,
    handle: (call, services) =>
      askOfVm(services, call, { verb: 'vm.repair', intent: { kind: 'none' }, arguments: call.body })
  }),

  defineRoute('POST /v1/vms/{name}/forget', {
    tier: 'manage',
    summary: 'Forget a VM whose host is revoked; where the host still lives the VM runs on',
    params: VmParams,
    body: EmptyRequest,
    reply: Removed,
    handle: async ({ params: { name } }, { store, log }) => {
      await findVm(store, name)
      await store.vms.forget(name)
      log.info({ vm: name }, 'VM of a revoked host forgotten')
      return { removed: true as const }
    }
  })
]

/** Throws E_CONFLICT when there is a VM of that name. */
export async function assertFree(store: Store, name: string, way = 'or choose another name'): Promise<void> {
  const taken = await store.vms.find(name)
  if (taken === undefined) return
  if (taken.report?.retainedUntil !== undefined)
    throw new HostletError(
      'E_CONFLICT',
      `VM ${name} on host ${taken.host} was torn down and is kept until ${new Date(taken.report.retainedUntil).toISOString()}. Have it back with "hostlet vm undelete ${name}", erase it now with "hostlet vm rm ${name} --now", or choose another name.`
    )
  throw new HostletError(
    'E_CONFLICT',
    `a VM named ${name} exists already, on host ${taken.host}. See "hostlet vm show ${name}", ${way}.`
  )
}

async function placementOf(
  services: Services,
  { host, specification, placement }: Static<typeof CreateVmRequest>
) {
  return hostFor(services, {
    host,
    wanted: wantedOf(specification, placement, 'vm.provision'),
    ...(needsKey(specification) && { preferred: await hostsWithKey(services.store) })
  })
}

async function hostsWithKey(store: Store): Promise<ReadonlySet<string>> {
  const { items } = await store.hosts.list(fleetItemsMax)
  return new Set(items.filter(({ report }) => report?.facts?.secretsKey !== undefined).map(({ id }) => id))
}
