// The end of VMs and the ways back: tearing one down, having it back, its certificate, and another image for its root disk.

import { HostletError } from '../../../errors.ts'
import { Type } from '../../../lib/schema.ts'
import {
  EmptyRequest,
  EraseCertificateReply,
  ErasedVm,
  OperationReply,
  ReimageRequest,
  TeardownQuery
} from '../../../protocol/api.ts'
import { strict, VmName } from '../../../protocol/names.ts'
import { readEraseCertificate } from '../../erasures.ts'
import type { VmRecord } from '../../store/store.ts'
import { present } from '../../views/operation-view.ts'
import { assertTier } from '../api-keys.ts'
import { ask, askOfVm } from '../ask.ts'
import { findHost, findVm } from '../lookup.ts'
import { defineRoute } from '../route.ts'
import { sealedSeed } from '../user-data.ts'

const VmParams = Type.Object({ name: VmName }, strict)

export const vmLifecycleRoutes = [
  defineRoute('DELETE /v1/vms/{name}', {
    tier: 'manage',
    summary:
      'Switch a VM off, and erase it with its keys and disks after `retainDays`, at once where they are 0; `backups`, which erases its backups too, takes tier admin',
    status: 202,
    params: VmParams,
    query: TeardownQuery,
    reply: OperationReply,
    handle: async (call, services) => {
      const { backups, retainDays: days } = call.query
      if (backups === true && call.actor !== undefined) assertTier(call.actor, 'admin')
      return ask(services, call.repeatable, async () => {
        const vm = await findVm(services.store, call.params.name)
        const retainDays = daysKept(vm, days, services.config.vms.retainDays)
        return {
          verb: 'vm.teardown',
          host: await findHost(services.store, vm.host),
          vm: { name: vm.name, uuid: vm.uuid },
          // What it was to be is what it is to be again if somebody has it back.
          intent: retainDays === undefined ? { kind: 'want', wanted: 'stopped' } : { kind: 'none' },
          arguments: { vm: vm.name, ...present({ retainDays, backups }) }
        }
      })
    }
  }),

  defineRoute('POST /v1/vms/{name}/undelete', {
    tier: 'manage',
    summary: 'Have a VM back that was torn down and is still kept',
    status: 202,
    params: VmParams,
    body: EmptyRequest,
    reply: OperationReply,
    handle: (call, services) => askOfVm(services, call, { verb: 'vm.undelete', intent: { kind: 'none' } })
  }),

  defineRoute('POST /v1/vms/{name}/reimage', {
    tier: 'manage',
    summary: 'Give a VM a new root disk made of another image; data disk and address stay',
    status: 202,
    params: VmParams,
    body: ReimageRequest,
    reply: OperationReply,
    handle: ({ params, body: { seed: asked, ...body }, repeatable }, services) =>
      ask(services, repeatable, async () => {
        const { name, uuid, host: id } = await findVm(services.store, params.name)
        const host = await findHost(services.store, id)
        const seed = asked && (await sealedSeed(asked, { vm: uuid, image: body.image.sha256 }, host))
        return {
          verb: 'vm.reimage',
          host,
          vm: { name, uuid },
          arguments: { vm: name, ...body, ...(seed && { seed }) },
          intent: { kind: 'none' }
        }
      })
  }),

  defineRoute('GET /v1/vms/{name}/erase-certificate', {
    tier: 'read',
    summary: 'What the host signed when it erased a VM, by UUID, or by the name of the last that had it',
    params: Type.Object({ name: ErasedVm }, strict),
    reply: EraseCertificateReply,
    handle: async ({ params: { name: vm } }, { store }) => {
      const kept = await store.erasures.find(vm)
      if (kept === undefined)
        throw new HostletError(
          'E_NOT_FOUND',
          `there is no erase certificate of VM ${vm}. See "hostlet vm ls" for VMs that are there or kept; a host that is away sends it when it is back.`
        )
      const { certificate, fault, receivedAt } = kept
      const claims = readEraseCertificate(certificate)
      return { certificate, claims, verified: fault === undefined, ...present({ fault }), receivedAt }
    }
  })
]

/**
 * For how many days it is kept; undefined for not at all. Where the asker does not say, one that its host has is kept as
 * configured, and one that is not there any more is not. Throws E_CONFLICT for one that is kept already: who asks again after
 * a lost answer does not mean to have it erased.
 */
function daysKept(
  { name, report }: VmRecord,
  asked: number | undefined,
  configured: number
): number | undefined {
  if (asked === undefined && configured > 0 && report?.present && report.retainedUntil !== undefined)
    throw new HostletError(
      'E_CONFLICT',
      `VM ${name} was torn down already, and is kept until ${new Date(report.retainedUntil).toISOString()}. Erase it now with "hostlet vm rm ${name} --now", or have it back with "hostlet vm undelete ${name}".`
    )
  const days = asked ?? (report?.present === true ? configured : 0)
  return days === 0 ? undefined : days
}
